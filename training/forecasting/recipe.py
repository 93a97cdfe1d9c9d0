"""The recipe of every forecaster, top to bottom: rows, examples, search, intervals, refit, package, pictures.

The examples' weeks are cut in three, in time, with HORIZON weeks between so that no target reaches into the next
part: the oldest are fitted to, the middle ones choose how strongly to regularise, the newest judge that model and
say how wide its intervals must be. Then the model is fitted again on all of them, for the newest weeks say most.
Its intervals are those of the model before. A window of nobody knows which topic has intervals of its own: those of
the same weeks' windows in spreads of a typical topic, without context, against the change by a typical topic's pace.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nightshift import featurestore
from nightshift.contracts.features import TOPIC_VIEW, VIEWS
from nightshift.errors import NoDataError
from nightshift.settings import Settings
from training.exams.forecaster import rows_of_weeks
from training.forecasting import conformal, explain, package
from training.forecasting.conformal import Intervals
from training.forecasting.data import (
    FEATURES,
    Windows,
    first_known,
    of_nobody,
    split,
    typical,
    week_number,
    windows_from_rows,
)
from training.forecasting.fit import Fitted, fit
from training.forecasting.hyper import Hyper
from training.forecasting.judging import held, judge
from training.forecasting.predictor import Forecaster
from training.recipe import AS_ALWAYS, LogEpoch, Night, Setup, Trained
from training.spaces import Between, Goal, OneOf, Rehearse, Space

LEAST_WEEKS, LEAST_EXAMPLES = 40, 200  # of known changes: less leaves no week to choose and none to judge by
VALID_SHARE, JUDGE_SHARE = 0.1, 0.2  # of the weeks
JUDGE_WEEKS = 52  # at most: a year has every season, and an older one says less about the next weeks
SIZE_WEEKS = 104  # before those: where the topics' error sizes are taken from
REFERENCE_WEEKS, REFERENCE_ROWS = 52, 5_000
SMOKE_EXAMPLES = 2_000
USED = {  # which settings a kind has
    "ridge": ("bare", "alphas"),
    "lightgbm": ("bare", "leaves", "tree_rate", "max_trees", "tree_patience", "tree_rows"),
}


@dataclass(frozen=True)
class Parts:
    """fitted: examples to fit to; valid: to choose by; judge: to measure with."""

    fitted: Windows
    valid: Windows
    judge: Windows


@dataclass(frozen=True)
class Learnt:
    """What was learnt from feature rows, and with what outcome.

    rows: the first that described each topic and week; windows, keys: the examples made of them.
    searched: the model of the search; judged [n, H] are its forecasts of `parts.judge`, guessed [m] those of the same
        weeks' windows of nobody (`alone`), and intervals and bare are calibrated on their errors.
    final: the model fitted again on everything.
    """

    rows: pd.DataFrame
    filled: dict[str, float]
    windows: Windows
    keys: pd.DataFrame
    parts: Parts
    searched: Fitted
    judged: np.ndarray
    intervals: Intervals
    alone: Windows
    guessed: np.ndarray
    bare: Intervals
    final: Fitted

    @property
    def topics(self) -> list[str]:
        """By number of their series."""
        return [str(topic) for topic in pd.unique(self.keys["topic"])]

    @property
    def served(self) -> tuple[Fitted, Intervals, Intervals, list[str], dict[str, float]]:
        """What a package is made of."""
        return self.final, self.intervals, self.bare, self.topics, self.filled


# What a study may try of a network; how long to fit is found by the search of each.
SPACE: Space = {
    "size": OneOf((16, 32, 64)),
    "learning_rate": Between(5e-4, 1e-2, log=True),
    "weight_decay": Between(1e-3, 1e-1, log=True),
    "auxiliary": Between(0.0, 1.0),
    "bare": Between(0.1, 0.4),
}


class ForecastRecipe:
    """One kind of `training.forecasting.fit.KINDS` for the forecaster seat."""

    space, goal, defaults = SPACE, Goal("val_loss", upwards=False), Hyper()

    def __init__(self, kind: str) -> None:
        self.kind = kind

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
        hyper = setup.applied(Hyper())
        hyper = replace(hyper, members=2, max_epochs=2, max_trees=20) if smoke else hyper
        store = featurestore.open_store(settings)
        rows = rows_of_weeks(store, night.train_start, night.train_end, night.night)
        return self.train_rows(rows, night, workdir, hyper, smoke=smoke, seed=seed, log_epoch=log_epoch)

    def rehearsal(self, night: Night, settings: Settings) -> Rehearse:
        """See `training.spaces.Studied`. The slice that chooses the epochs scores; the judging one is not looked at."""
        store = featurestore.open_store(settings)
        rows = first_known(rows_of_weeks(store, night.train_start, night.train_end, night.night))
        windows, _ = _usable(*windows_from_rows(rows, typical(rows)), night)
        parts = cut(windows)

        def rehearse(setup: Setup, seed: int, log_epoch: LogEpoch) -> float:
            hyper = setup.applied(Hyper())
            found = fit(self.kind, parts.fitted, parts.valid, hyper, seed=seed, after_epoch=log_epoch)
            return min(told["val_loss"] for told in found.curve)

        return rehearse

    def train_rows(
        self,
        rows: pd.DataFrame,
        night: Night,
        workdir: Path,
        hyper: Hyper,
        *,
        smoke: bool,
        seed: int,
        log_epoch: LogEpoch,
    ) -> Trained:
        """`train` from the topics' feature rows on.

        Raises:
            NoDataError: too few changes of velocity are known.
        """
        learnt = self.learn(rows, night, hyper, smoke=smoke, seed=seed, log_epoch=log_epoch)
        judge_part, judged, topics = learnt.parts.judge, learnt.judged, learnt.topics
        metrics = {
            **judge(judge_part, judged[:, -1]),
            **held(judge_part, judged[:, -1], learnt.intervals.scale),
            **{f"bare_{name}": share for name, share in held(learnt.alone, learnt.guessed, {}).items()},
        }
        explained = explain.attributions(
            learnt.final, judge_part, seed, rows=20 if smoke else explain.EXPLAINED
        )
        velocity = learnt.keys["velocity"].to_numpy(np.float64)[learnt.windows.time >= judge_part.time.min()]
        return Trained(
            package=package.write(*learnt.served, _newest_row(learnt.rows), workdir),
            params=self._params(hyper, learnt.searched, learnt.parts, len(topics), len(learnt.windows)),
            metrics=metrics,
            features=FEATURES,
            reference=_reference(learnt.rows, seed),
            data=learnt.keys.assign(change=learnt.windows.y[:, -1].astype(np.float64)).reset_index(drop=True),
            table="indicators",
            figures={
                "learning_curve.png": explain.learning_curve(learnt.searched),
                "forecasts.png": explain.forecasts(
                    judge_part, judged[:, -1], learnt.intervals, velocity, topics
                ),
                "error_by_horizon.png": explain.error_by_horizon(judge_part, judged),
                "error_by_topic.png": explain.error_by_topic(judge_part, judged[:, -1], topics),
                "shap.png": explain.shap_figure(explained),
            },
        )

    def in_memory(self, rows: pd.DataFrame, night: Night) -> Forecaster:
        """What would be served, fitted to the topics' feature rows; without package and pictures.

        Raises:
            NoDataError: too few changes of velocity are known.
        """
        learnt = self.learn(rows, night, Hyper(), smoke=False, seed=0, log_epoch=lambda epoch, told: None)
        return package.in_memory(*learnt.served)

    def learn(
        self,
        rows: pd.DataFrame,
        night: Night,
        hyper: Hyper,
        *,
        smoke: bool,
        seed: int,
        log_epoch: LogEpoch,
    ) -> Learnt:
        """Search, judge and refit. Raises NoDataError if too few changes of velocity are known."""
        rows = first_known(rows)
        filled = typical(rows)
        windows, keys = windows_from_rows(rows, filled)
        windows, keys = _usable(windows, keys, night)
        parts = cut(windows)
        if smoke:
            parts = replace(parts, fitted=_some(parts.fitted, seed))
        searched = fit(self.kind, parts.fitted, parts.valid, hyper, seed=seed, after_epoch=log_epoch)
        judged = searched.predict(parts.judge)
        newest = rows[week_number(rows["week"]) >= parts.judge.time.min()]
        alone = windows_from_rows(of_nobody(newest, filled), filled)[0].complete
        guessed = searched.predict(alone)[:, -1]
        final = fit(
            self.kind,
            _some(windows, seed) if smoke else windows,
            None,
            hyper,
            seed=seed,
            after_epoch=lambda epoch, told: log_epoch(epoch, _refit_only(told)),
            chosen=searched.chosen,
        )
        return Learnt(
            rows=rows,
            filled=filled,
            windows=windows,
            keys=keys,
            parts=parts,
            searched=searched,
            judged=judged,
            intervals=_intervals(searched, windows, parts.judge, judged[:, -1]),
            alone=alone,
            guessed=guessed,
            bare=conformal.calibrate(alone.y[:, -1] - guessed),
            final=final,
        )

    def _params(
        self, hyper: Hyper, found: Fitted, parts: Parts, topics: int, examples: int
    ) -> dict[str, Any]:
        trees = {name for name in USED["lightgbm"] if name not in USED["ridge"]}
        used = USED.get(self.kind) or tuple(name for name in asdict(hyper) if name not in trees)
        sizes = {f"examples_{name}": len(getattr(parts, name)) for name in ("fitted", "valid", "judge")}
        settings = {name: value for name, value in asdict(hyper).items() if name in used}
        return {**settings, **found.chosen, "topics": topics, "examples": examples, **sizes}


def cut(windows: Windows) -> Parts:
    """The examples in three parts by time, HORIZON weeks apart. Counted are the weeks that have examples.

    Raises:
        NoDataError: a part has no example.
    """
    weeks = np.unique(windows.time)
    judged, chosen = min(JUDGE_WEEKS, round(JUDGE_SHARE * len(weeks))), round(VALID_SHARE * len(weeks))
    judge_from = int(weeks[len(weeks) - max(judged, 1)])
    earlier, judge_part = split(windows, judge_from)
    left = np.unique(earlier.time)
    if len(left) <= chosen:
        raise _too_few_weeks(weeks)
    fitted, valid = split(earlier, int(left[len(left) - max(chosen, 1)]))
    if not len(fitted):
        raise _too_few_weeks(weeks)
    return Parts(fitted, valid, judge_part)


def _too_few_weeks(weeks: np.ndarray) -> NoDataError:
    return NoDataError(
        f"the velocity's change is known for {len(weeks)} weeks; a forecaster needs {LEAST_WEEKS}, to learn from, "
        "to choose by and to be judged by: the seat is left out tonight"
    )


def _usable(windows: Windows, keys: pd.DataFrame, night: Night) -> tuple[Windows, pd.DataFrame]:
    """The examples whose change is known, their series numbered anew; enough of them."""
    known = np.isfinite(windows.y[:, -1])
    weeks = len(np.unique(windows.time[known]))
    if weeks < LEAST_WEEKS or known.sum() < LEAST_EXAMPLES:
        raise NoDataError(
            f"night {night.night}: the velocity's change is known for {known.sum()} examples in {weeks} weeks "
            f"({night.train_start} to {night.train_end}); a forecaster needs {LEAST_EXAMPLES} in {LEAST_WEEKS}: "
            "the seat is left out tonight"
        )
    kept, named = windows.where(known), keys[known].reset_index(drop=True)
    return replace(kept, series=pd.factorize(named["topic"])[0].astype(np.int64)), named


def _some(windows: Windows, seed: int) -> Windows:
    """At most SMOKE_EXAMPLES, drawn evenly."""
    if len(windows) <= SMOKE_EXAMPLES:
        return windows
    return windows.where(np.random.default_rng(seed).choice(len(windows), SMOKE_EXAMPLES, replace=False))


def _intervals(fitted: Fitted, windows: Windows, judged: Windows, forecast: np.ndarray) -> Intervals:
    first = int(judged.time.min())
    before = windows.where((windows.time + windows.horizon < first) & (windows.time >= first - SIZE_WEEKS))
    sizes = conformal.error_sizes(before.y[:, -1] - fitted.predict(before)[:, -1], before.series)
    return conformal.calibrate(judged.y[:, -1] - forecast, judged.series, sizes)


def _refit_only(told: dict[str, float]) -> dict[str, float]:
    return {f"refit_{name}": value for name, value in told.items()}


def _newest_row(rows: pd.DataFrame) -> pd.Series:
    """The example of the package: a row of the newest week whose velocity is known."""
    return rows[rows["velocity"].notna()].sort_values("week", kind="stable").iloc[-1]


def _reference(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Week and watched columns of a sample of the newest year's rows: what the watch compares a new week with."""
    weeks, watched = sorted(rows["week"].unique())[-REFERENCE_WEEKS:], list(VIEWS[TOPIC_VIEW].watched)
    newest = rows.loc[rows["week"].isin(weeks), ["week", *watched]].astype(dict.fromkeys(watched, np.float64))
    return newest.sample(min(REFERENCE_ROWS, len(newest)), random_state=seed).reset_index(drop=True)
