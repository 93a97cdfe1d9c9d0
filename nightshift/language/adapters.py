"""An adapter in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nightshift.language.bases import BaseRef


@dataclass
class Adapter:
    """An adapter, as `nightshift.seats.LanguageModel` says; without weights it is the untuned base."""

    base: str
    revision: str
    tokenizer_digest: str
    lora: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)


def untuned(ref: BaseRef, tokenizer_digest: str) -> Adapter:
    """The base as it is."""
    return Adapter(ref.name, ref.revision, tokenizer_digest)
