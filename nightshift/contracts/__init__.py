"""Data contracts: one file each, with schema, meaning and a tiny valid sample."""

from nightshift.contracts.indicators import INDICATORS
from nightshift.contracts.interactions import INTERACTIONS, ITEMS, USERS
from nightshift.contracts.table import Column, Contract

CONTRACTS: dict[str, Contract] = {c.name: c for c in (INTERACTIONS, USERS, ITEMS, INDICATORS)}

__all__ = ["CONTRACTS", "INDICATORS", "INTERACTIONS", "ITEMS", "USERS", "Column", "Contract"]
