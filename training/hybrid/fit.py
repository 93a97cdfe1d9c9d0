"""The meta-ranker: how much each part of the score weighs, learnt from what users met next.

A conditional logit (McFadden 1974): the chance that a case's item is met, of all that was on offer, is the softmax of
the scores, and the weights make what was met most likely. Convex, so there is one answer and no seed in it but the draw
of cases and rivals; with rivals drawn evenly from the catalogue it estimates the same weights (McFadden 1978). A score
is linear in the weights, so each of them can be read.

**Out of time.** The parts are fitted on the days before the cases, as they are for a night's service on the days before
what is asked. Of some cases the session is kept back, of some the moment, of some the past: so that the weights know
what to do with a request that says nothing, and with a stranger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from training.hybrid.data import Cases, Window
from training.hybrid.parts import Hyper
from training.hybrid.predictor import MIXERS, PARTS, Hybrid, mixers

FORGOTTEN = 0.15  # of the cases are asked as of a stranger
SILENT = 0.5  # of the cases say neither session nor moment, as the exam does
CELLS = 1_000_000  # cases × items whose parts are computed at once: 4 MB a part
ITERATIONS = 100
LEAST_SPREAD = 1e-3  # of a part that says next to nothing on these cases: its weight must not blow up
# What a standard deviation of a part is worth before anything was learnt.
BEGIN = {
    "taste": 1.0,
    "session": 1.0,
    "popularity": 0.4,
    "standing": 0.4,
    "content": 0.5,
    "session_content": 0.5,
    "category": 0.3,
    "factors": 0.5,
}


@dataclass(frozen=True)
class Choices:
    """part: float32 [n, 1 + negatives, parts], what was met first. open: bool [n, 1 + negatives], False = not a rival.
    mixer: float32 [n, mixers]."""

    part: np.ndarray
    open: np.ndarray
    mixer: np.ndarray


@dataclass(frozen=True)
class Learnt:
    """weight: float32 [parts, mixers], of the parts' values as they are. spread: float64 [parts], the usual standard
    deviation of a part over the items of a case. cases: how many taught it."""

    weight: np.ndarray
    spread: np.ndarray
    cases: int


def draw(model: Hybrid, window: Window, cases: Cases, hyper: Hyper, random: np.random.Generator) -> Choices:
    """Each case with rivals that its user has not met by then, out of what was on offer on its day.

    model: the parts as fitted on the days before the cases. window: holds the cases' days.
    """
    known = len(model.items)
    kept = np.flatnonzero(cases.item <= known)  # what came on offer since the model cannot be ranked by it
    kept = np.sort(random.choice(kept, size=min(hyper.cases, len(kept)), replace=False))
    cases = cases.take(kept)
    rivals = random.integers(0, known, size=(len(cases), hyper.negatives))
    shown = np.concatenate([cases.item[:, None] - 1, rivals], axis=1)
    size = len(window.items) + 1
    met = np.unique(window.met[:, 0] * size + window.met[:, 1])
    code = cases.user[:, None] * size + shown + 1
    is_open = ~np.isin(code, met)
    is_open[:, 0] = True
    silent, forgotten = random.random(len(cases)) < SILENT, random.random(len(cases)) < FORGOTTEN
    rows = np.where(forgotten, -1, cases.user - 1)
    nothing = np.empty(0, np.int64)
    recent = [
        nothing if quiet else items[items <= known] - 1
        for quiet, items in zip(silent, cases.recent, strict=True)
    ]
    moments = np.where(silent[:, None], -1, cases.moment)
    parts = np.zeros((*shown.shape, len(PARTS)), np.float32)
    mixer = np.zeros((len(cases), len(MIXERS)), np.float32)
    step = max(1, CELLS // known)
    for first in range(0, len(cases), step):
        some = slice(first, first + step)
        asked = model.asked_of(rows[some], recent[some], moments[some])
        mixer[some] = mixers(asked.met, asked.fresh)
        for number, part in model.parts(asked):
            full = np.broadcast_to(part, (len(rows[some]), known))
            parts[some, :, number] = np.take_along_axis(full, shown[some], axis=1)
    return Choices(parts, is_open, mixer)


def learn(choices: Choices | None, hyper: Hyper, used: tuple[str, ...] = PARTS) -> Learnt:
    """The weights that make the choices likeliest; parts that are not `used` weigh nothing.

    The penalty is on parts in units of their own spread, so that it is the same for each, and towards BEGIN: with few
    cases the weights stay sensible, and without any (None) they stay there.
    """
    begin = np.zeros((len(used), len(MIXERS)))
    begin[:, 0] = [BEGIN.get(name, 0.0) for name in used]
    columns = [PARTS.index(part) for part in used]
    weight, spread = np.zeros((len(PARTS), len(MIXERS)), np.float32), np.ones(len(PARTS))
    if choices is None or not len(choices.part):
        weight[columns] = begin
        return Learnt(weight, spread, 0)
    spread = np.maximum(choices.part.std(axis=1, dtype=np.float64).mean(axis=0), LEAST_SPREAD)
    part = choices.part[:, :, columns] / spread[columns].astype(np.float32)
    loss = _loss(part, choices.open, choices.mixer.astype(np.float64), begin, hyper.l2)
    found = minimize(loss, begin.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS}).x
    weight[columns] = found.reshape(begin.shape) / spread[columns, None]
    return Learnt(weight, spread, len(part))


def _loss(
    part: np.ndarray, is_open: np.ndarray, mixer: np.ndarray, begin: np.ndarray, l2: float
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """Negative log-likelihood of the choices and its gradient, with the penalty, of flat weights [parts · mixers]."""
    closed = np.where(is_open, 0.0, -np.inf).astype(np.float32)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight = flat.reshape(begin.shape)
        mine = (mixer @ weight.T).astype(np.float32)
        score = np.matmul(part, mine[:, :, None])[:, :, 0] + closed
        score -= score.max(axis=1, keepdims=True)
        chance = np.exp(score)
        total = chance.sum(axis=1, keepdims=True)
        value = float((np.log(total[:, 0]) - score[:, 0]).sum(dtype=np.float64))
        chance /= total
        chance[:, 0] -= 1
        slope = np.matmul(chance[:, None, :], part)[:, 0, :].astype(np.float64).T @ mixer
        apart = weight - begin
        return value + l2 * float((apart**2).sum()), (slope + 2 * l2 * apart).ravel()

    return loss
