"""The hybrid's recipe, top to bottom: parts, weights, what each group adds, refit, package, pictures.

The window's last days are the validation exam, and as many before them teach the weights that sit it: parts fitted on
what came before those, weights learnt on them, parts fitted again up to the exam. What serves has its weights from the
validation days and its parts from all days. With too few days for that, the weights stay where they begin.

Somebody of whom nothing is known gets plain popularity (part `standing`) unless the weights ranked the exam's strangers
better, beyond noise: weights are learnt from every case alike, and few cases are the first of somebody unknown.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nightshift import featurestore
from nightshift.lake import open_lake
from nightshift.settings import Settings
from training.calibration import Calibrated, calibrate, look
from training.exams.ranking import Exam, score_model
from training.hybrid import content, explain, factors, parts
from training.hybrid.data import Window, cases_from, read_window
from training.hybrid.fit import Learnt, draw, learn
from training.hybrid.halves import half_visits, silent
from training.hybrid.package import in_memory, write
from training.hybrid.parts import Hyper
from training.hybrid.predictor import MIXERS, PARTS, Hybrid
from training.intervals import student_interval
from training.meetings import reference_rows
from training.pictures import beeswarm
from training.recipe import AS_ALWAYS, LogEpoch, Night, Setup, Trained
from training.rehearsal import VALIDATION_USERS, validation_exam, validation_start

FEWEST_STRANGERS = 20  # fewer cannot say whether the weights know what strangers want
STRANGERS = "strangers by popularity"


@dataclass
class Validated:
    """What the validation days said: every figure of the whole model, figures as groups of parts were added, how sure
    the model may be of what it shows, and whether strangers had better get plain popularity."""

    metrics: dict[str, float] = field(default_factory=dict)
    components: list[dict[str, Any]] = field(default_factory=list)
    calibrated: Calibrated | None = None
    plain: bool = True


class HybridRecipe:
    """Collaborative, content, session, context and popularity scores under a learned meta-ranker."""

    def train(
        self,
        night: Night,
        settings: Settings,
        workdir: Path,
        *,
        smoke: bool,
        seed: int,
        log_epoch: LogEpoch,
        setup: Setup = AS_ALWAYS,
    ) -> Trained:
        hyper, random = setup.applied(Hyper()), np.random.default_rng(seed)
        hyper = replace(hyper, epochs=min(2, hyper.epochs)) if smoke else hyper
        lake, store = open_lake(settings), featurestore.open_store(settings)
        window = read_window(lake, night.train_start, night.train_end, night.met_from)
        cut = validation_start(lake, night, window.days, settings)
        exam = validation_exam(lake, store, window.days, cut, settings)
        vectors = content.vectors(content.texts(window.items, window.told), hyper.dimensions, seed)
        before = (
            fitted(window.until(cut), vectors, hyper, seed) if cut else None
        )  # knows nothing of the last days
        validated = _validate(window, exam, cut, before, vectors, hyper, seed, smoke, log_epoch)
        learnt = weights_from(window, cut, before, hyper, seed)
        arrays = {
            **fitted(window, vectors, hyper, seed),
            "weight": learnt.weight,
            "plain": flag(validated.plain),
        }
        calibrated = validated.calibrated
        if calibrated is not None:
            arrays["calibration"] = calibrated.knots
        components = pd.DataFrame(validated.components)
        return Trained(
            package=write(window, hyper, arrays, workdir),
            params={
                **asdict(hyper),
                "users": len(window.users),
                "items": len(window.items),
                "positives": len(window.user),
                "learnt_from": learnt.cases,
                "validation_users": len(exam.users) if exam else 0,
                "strangers_by": "popularity" if validated.plain else "weights",
            },
            metrics=validated.metrics,
            features=[],  # it learns from meetings, the catalogue and who users are, not from Feast's numbers
            reference=reference_rows(store, window, random),
            data=window.rows(),
            figures={
                "learning_curve.png": explain.curve(components),
                "shap.png": beeswarm(
                    explain.attributions(
                        in_memory(window, arrays), cases_from(window, cut) or cases_from(window, 0), random
                    )
                ),
                **({"reliability.png": calibrated.figure()} if calibrated is not None else {}),
            },
            tables={
                "components": components,
                "weights": explain.weights(learnt.weight, learnt.spread, MIXERS),
            },
        )


RECIPE = HybridRecipe()


def fitted(window: Window, vectors: np.ndarray, hyper: Hyper, seed: int) -> dict[str, np.ndarray]:
    """The arrays of a window's parts, with no weights yet."""
    return {
        **parts.fit(window, vectors, hyper),
        **factors.fit(window, hyper, seed),
        "weight": np.zeros((len(PARTS), len(MIXERS)), np.float32),
        "plain": flag(False),
    }


def flag(value: bool) -> np.ndarray:
    """A truth as an array of a package: uint8 [1]."""
    return np.array([value], np.uint8)


def weights_from(
    window: Window,
    cut: int,
    before: dict[str, np.ndarray] | None,
    hyper: Hyper,
    seed: int,
    used: tuple[str, ...] = PARTS,
) -> Learnt:
    """The weights that the window's days from `cut` on teach. before: the parts of the days until then."""
    if before is None:
        return learn(None, hyper, used)
    model = in_memory(window.until(cut), before)
    return learn(
        draw(model, window, cases_from(window, cut), hyper, np.random.default_rng(seed)), hyper, used
    )


def _validate(
    window: Window,
    exam: Exam | None,
    cut: int,
    before: dict[str, np.ndarray] | None,
    vectors: np.ndarray,
    hyper: Hyper,
    seed: int,
    smoke: bool,
    log_epoch: LogEpoch,
) -> Validated:
    """Learn weights on the days before the exam's, and let more and more parts sit it."""
    found = Validated()
    if exam is None or before is None:
        return found
    early = window.until(cut)
    days = len(window.days) - cut
    first = max(cut - days, 0)
    choices = None
    if first:
        model = in_memory(early.until(first), fitted(early.until(first), vectors, hyper, seed))
        choices = draw(model, early, cases_from(early, first), hyper, np.random.default_rng(seed))
    halves = half_visits(window, cut, days, VALIDATION_USERS)
    used: tuple[str, ...] = ()
    for step, (name, added) in enumerate(explain.STEPS, start=1):
        used += added
        if smoke and step < len(explain.STEPS):
            continue
        learnt = learn(choices, hyper, used)
        model = in_memory(early, {**before, "weight": learnt.weight})
        metrics = _judged(model, exam, halves)
        found.components.append({"parts": name, **metrics})
        log_epoch(step, {"parts": len(used), **{f"val_{n}": v for n, v in metrics.items()}})
    plain = in_memory(early, {**before, "weight": learnt.weight, "plain": flag(True)})
    found.plain = not ranks_strangers_better(model, plain, exam)
    if found.plain:
        model = plain
        metrics = _judged(model, exam, halves)
        found.components.append({"parts": STRANGERS, **metrics})
    found.metrics, found.calibrated = metrics, calibrate(look(model, exam))
    if found.calibrated is not None:
        found.metrics = {**metrics, "calibration_error_at_10": found.calibrated.judged.error}
    return found


def ranks_strangers_better(model: Hybrid, plain: Hybrid, exam: Exam) -> bool:
    """Whether `model` leads `plain` in NDCG@100 beyond noise (95 %), over the users whom it does not know.

    False with too few of them: with nothing to go by, what most people met is the safer list.
    """
    asked = exam.where(np.array([not model.known(user) for user in exam.users], bool))
    if len(asked) < FEWEST_STRANGERS:
        return False
    own, usual = (score_model(one, asked).per_unit["ndcg_at_100"] for one in (model, plain))
    return student_interval(own - usual, confidence=0.95)[0] > 0


def _judged(model: Hybrid, exam: Exam, halves: Exam | None) -> dict[str, float]:
    """Every figure of the exam, and NDCG of half visits, with the half told and without."""
    metrics = score_model(model, exam).means()
    if halves is not None:
        for prefix, asked in (("session_", halves), ("silent_", silent(halves))):
            means = score_model(model, asked).means()
            metrics |= {f"{prefix}{name}": means[name] for name in ("ndcg_at_10", "ndcg_at_100")}
    return metrics
