"""The one part of the score that is descended on: a taste and a catalogue of vectors, as family `dae` learns them.

The similarities of `parts.py` are counted pair by pair; these vectors make one number of all that was met, so that a
pair that nobody met together has a likeness too.
"""

from __future__ import annotations

import numpy as np
import torch

from training.factors import dae
from training.history import liked_matrix
from training.hybrid.parts import Hyper
from training.hybrid.predictor import ALPHA
from training.meetings import Meetings


def fit(window: Meetings, hyper: Hyper, seed: int) -> dict[str, np.ndarray]:
    """encoder, decoder: float32 [items, factors]. The bias is left where it is: popularity has parts of its own."""
    settings = dae.Hyper(factors=hyper.factors, alpha=ALPHA, epochs=hyper.epochs)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)  # tables this small: a second thread only adds waiting
    found = dae.fit(
        liked_matrix(window), settings, seed=seed, device=device, after_epoch=lambda epoch, loss, tables: None
    )
    return {"encoder": found.encoder, "decoder": found.decoder}
