"""Data contracts: one file each, with schema, meaning and a tiny valid sample."""

from nightshift.contracts.conversations import CONVERSATIONS
from nightshift.contracts.indicators import INDICATORS
from nightshift.contracts.interactions import INTERACTIONS, ITEMS, USERS
from nightshift.contracts.table import Column, Contract

CONTRACTS: dict[str, Contract] = {c.name: c for c in (INTERACTIONS, USERS, ITEMS, INDICATORS, CONVERSATIONS)}

__all__ = ["CONTRACTS", "CONVERSATIONS", "INDICATORS", "INTERACTIONS", "ITEMS", "USERS", "Column", "Contract"]
