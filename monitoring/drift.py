"""How far the newest day's users are from those the champion was trained on, column by column (Evidently).

Method: Wasserstein distance ÷ standard deviation of the reference, for every column. Evidently's defaults are not
used: below 1,000 rows they are significance tests, of which with 20 columns one alarms on 97.5 % of days without
drift; and a fixed distance means something else for 80 users than for 20,000, because two samples of one world are
about 1.2·√(1/n + 1/m) apart by chance. So the threshold is the smallest move that matters plus a margin for chance.

EFFECT and CHANCE were chosen on four simulated worlds (three of 2,000 users, one of 300; seeds 7, 1, 2, 7),
where a distance without drift is about 1.2 times √(1/n + 1/m), at most 3.4 times. Then checked on five
worlds that had no part in the choice (seeds 11 to 15; 2,000 and 300 users): no column moved on any of 170
days without drift, and 4 or 5 of 6 did on the first day of the planted drift. The simulated worlds hold
still by design, so real days are harder: over a year of Online Retail (about 55 customers a day, truth
unknown) 24 of 291 days had too few customers to compare; of the other 267, 22 moved one column and 1 moved
two, which counts as drift. With so few customers only moves of about half a standard deviation are seen.

**Weekly rows.** The topics of one week share that week's weather: a holiday moves them all, so two weeks of one world
are further apart than as many independent rows. Where the reference says which week its rows are of (column `week`),
a column's threshold is at least the furthest that any of its own weeks was from the others.

Not covered: columns that move together while each stands still; categories (all watched features are numbers).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from monitoring.triggers import ColumnScore

METHOD = "wasserstein"
EFFECT = 0.1  # in standard deviations: a smaller move is not worth a retrain (Evidently's own default)
CHANCE = 2.5  # × √(1/n + 1/m); see above for how it was chosen and checked
MIN_ROWS = 30  # fewer values say nothing: the threshold would be above half a standard deviation
MAX_ROWS = 20_000  # a seeded sample: 1M rows take Evidently two minutes, and are no surer
WEEK = "week"
SMALLEST_SPREAD = 0.001  # Evidently's own: a column that never moves has none
MISSING_RISE = 0.25  # a column whose missing share rose by this much is pointed out: its distance hides it


def threshold(current: int, reference: int) -> float:
    """The distance from which a column counts as moved, for so many values on either side (≥ 1)."""
    return EFFECT + CHANCE * math.sqrt(1 / current + 1 / reference)


def compare(
    current: pd.DataFrame, reference: pd.DataFrame, columns: list[str], html: Path, *, seed: int = 0
) -> list[ColumnScore]:
    """Score each of `columns`; one that cannot be compared has score None and says why.

    current, reference: one row per user (or user-day, topic-week); numbers, NaN where there is none.
    html: where Evidently's report is written; it is not if no column can be compared.
    """
    now, before = _numbers(current, columns, seed), _numbers(reference, columns, seed)
    usual = _apart(reference, columns) if WEEK in reference else {}
    notes = {name: _obstacle(now.get(name), before.get(name)) for name in columns}
    usable = [name for name in columns if not notes[name]]
    bounds = {
        name: max(threshold(now[name].count(), before[name].count()), usual.get(name, 0.0)) for name in usable
    }
    distances = _evidently(now[usable], before[usable], bounds, html) if usable else {}
    return [
        ColumnScore(
            name,
            distances.get(name),
            bounds.get(name, EFFECT),
            notes[name] or _missing(now[name], before[name]),
        )
        for name in columns
    ]


def _apart(reference: pd.DataFrame, columns: list[str]) -> dict[str, float]:
    """How far the furthest of the reference's weeks is from its other weeks, by column, measured as Evidently does."""
    from scipy.stats import wasserstein_distance

    found = {}
    for name in (name for name in columns if name in reference):
        column = pd.to_numeric(reference[name], errors="coerce").replace([np.inf, -np.inf], np.nan)
        weeks = reference.loc[column.notna(), WEEK].to_numpy()
        values = column.dropna().to_numpy(np.float64)
        spread = max(float(values.std()), SMALLEST_SPREAD) if len(values) else 1.0
        found[name] = max(
            (
                wasserstein_distance(values[weeks == week], values[weeks != week]) / spread
                for week in np.unique(weeks)
                if MIN_ROWS <= (weeks == week).sum() < len(weeks)
            ),
            default=0.0,
        )
    return found


def _numbers(frame: pd.DataFrame, columns: list[str], seed: int) -> pd.DataFrame:
    """The wanted columns that are there, as float64 with NaN for whatever is no finite number."""
    kept = frame[[name for name in columns if name in frame.columns]]
    if len(kept) > MAX_ROWS:
        kept = kept.sample(MAX_ROWS, random_state=seed)
    numbers = kept.apply(pd.to_numeric, errors="coerce").astype("float64")
    return numbers.replace([np.inf, -np.inf], np.nan).reset_index(drop=True)


def _obstacle(now: pd.Series | None, before: pd.Series | None) -> str:
    """Why a column cannot be compared, or an empty text."""
    for values, whose in ((now, "the day"), (before, "the champion's reference")):
        if values is None:
            return f"{whose} has no such column"
        if values.count() < MIN_ROWS:
            return f"{whose} has {values.count()} values, {MIN_ROWS} are needed"
    return ""


def _missing(now: pd.Series, before: pd.Series) -> str:
    rise = float(now.isna().mean() - before.isna().mean())
    if rise < MISSING_RISE:
        return ""
    return f"{now.isna().mean():.0%} of the day's values are missing, {before.isna().mean():.0%} of the reference's"


def _evidently(
    now: pd.DataFrame, before: pd.DataFrame, bounds: dict[str, float], html: Path
) -> dict[str, float]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    definition = DataDefinition(numerical_columns=list(bounds))
    metrics = [ValueDrift(column=name, method=METHOD, threshold=bound) for name, bound in bounds.items()]
    snapshot = Report(metrics).run(  # the current data come first, the reference second
        Dataset.from_pandas(now, data_definition=definition),
        Dataset.from_pandas(before, data_definition=definition),
    )
    html.parent.mkdir(parents=True, exist_ok=True)
    snapshot.save_html(str(html))
    found = snapshot.dict()["metrics"]
    return {metric["config"]["column"]: float(metric["value"]) for metric in found}
