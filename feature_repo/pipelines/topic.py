"""Topic features: of every week that was told, what was known of the topic when it was told.

A week is told once the figures known of it hold half of the velocity's weight (LEAST_COVERAGE): sources tell of one
week on different days, and the first of them, alone, would pass for the whole. Until then it has no row.

A row describes a topic's week with what was known by the end of the published day that told of it, and counts from
the midnight that ends that day. Rows of past days are never written again, so each stays what was known when:

* a week that is newly told, newer than all the topic's told weeks before it: the row of that week;
* anything else that changes what is known of the topic's newest told week or those before it (a revision, the
  figures that were still missing, a late week): the row of that newest week, anew;
* the first day on which a topic has told weeks, its opening, brings history: a row for each week told by that day,
  from what is then known of the weeks up to it, counted from the Monday after the week, as if it had been told in time.

A pure function of what was told, like the other pipelines, but in NumPy, because the velocity's formula is. Weeks
stand on a calendar, one place each: one that was not told is unknown, and no later one takes its place.
"""

from __future__ import annotations

import math
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.pipelines.common import EVENT_TIMESTAMP, end_of, schema
from nightshift import velocity
from nightshift.contracts.features import HORIZON, TOPIC_FEATURES, TOPIC_WINDOW, window_column
from nightshift.contracts.indicators import INDICATOR_NAMES, known, monday

KEY = "topic"
NAMES = list(INDICATOR_NAMES)
SCHEMA = schema(KEY, TOPIC_FEATURES)

YEAR = 52  # weeks
QUARTER = 13
# A row needs the velocity of these weeks before its own, and each of those needs its own past.
_LAGS = (0, HORIZON, QUARTER, YEAR - HORIZON, YEAR)
_REACH = YEAR + velocity.PAST + velocity.WINDOW - 1

_CELLS = 250_000  # topic-weeks computed at a time: 10 MB an array


def topic_features(told: pa.Table, day: date) -> pa.Table:
    """The rows that came to be known with `day`, in order of topic and time; most days none.

    told: the contract `indicators` and `day`, the published day (date32), in the order in which it was told, as
    `Lake.read` returns it; what was told after `day` is ignored.
    """
    today = told.filter(pc.equal(told["day"], pa.scalar(day, pa.date32())))
    before = told.filter(pc.less(told["day"], pa.scalar(day, pa.date32())))
    before = before.filter(pc.is_in(before[KEY], value_set=pc.unique(today[KEY])))
    old, new = _numbered(known(before)), _numbered(known(today))
    had, heard = old[velocity.told_enough(old[NAMES].to_numpy())], _heard(old, new)
    opening = ~heard[KEY].isin(had[KEY].unique())
    parts = [
        _computed([old, new], rows.assign(told_on=day.isoformat()))
        for rows in (_opened(heard[opening], day), _moved(had, heard[~opening], day))
    ]
    return pa.concat_tables(parts).sort_by([(KEY, "ascending"), (EVENT_TIMESTAMP, "ascending")])


# --- which rows ----------------------------------------------------------------------------------------


def _numbered(weeks: pd.DataFrame) -> pd.DataFrame:
    """With `number`, by which weeks are counted: 1 for each week on the calendar."""
    numbers = {week: monday(week).toordinal() // 7 for week in weeks["week"].unique()}
    return weeks.assign(number=weeks["week"].map(numbers).astype("int64"))


def _heard(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """topic, week and number of the weeks spoken of today; `told`: enough is known by now; `news`: more than before."""
    both = new.merge(old, how="left", on=[KEY, "week"], suffixes=("", "_before"))
    said, was = both[NAMES].to_numpy(), both[[f"{name}_before" for name in NAMES]].to_numpy()
    # Saying again what is known already is no news, and leaving a figure empty takes nothing back.
    news = (~np.isnan(said) & (said != was)).any(axis=1)
    told = velocity.told_enough(np.where(np.isnan(said), was, said))
    return both[[KEY, "week", "number"]].assign(told=told, news=news)


def _opened(heard: pd.DataFrame, day: date) -> pd.DataFrame:
    """A row for each told week, from the Monday after it on."""
    told = heard[heard["told"]]
    first = np.datetime64("1970-01-05", "D")  # a Monday
    weeks = told["number"].to_numpy() + 1 - date(1970, 1, 5).toordinal() // 7
    return _timed(told, first + weeks * np.timedelta64(7, "D"), day)


def _moved(had: pd.DataFrame, heard: pd.DataFrame, day: date) -> pd.DataFrame:
    """The weeks to write of topics that had told weeks: those that are newer, else the newest if news came of it.

    A row sees no week after its own, so what is heard of a later week that is not told yet is no news to it.
    """
    newest = had.groupby(KEY)["number"].max()
    later = heard["number"] > heard[KEY].map(newest)
    newer = heard[later & heard["told"]]
    again = sorted(set(heard.loc[~later & heard["news"], KEY]) - set(newer[KEY]))
    last = had.merge(newest.loc[again].reset_index(), on=[KEY, "number"])
    rows = pd.concat([newer, last], ignore_index=True)
    return _timed(rows, np.full(len(rows), _end_of(day)), day)


def _timed(rows: pd.DataFrame, at: np.ndarray, day: date) -> pd.DataFrame:
    """topic, week, number and `at`, when the row came to be known: by the end of `day`, later for a newer week.

    Of several weeks told on one day, the older ones count a microsecond earlier each: two rows of a topic with one
    time would leave it to chance which of them a join finds.
    """
    rows = rows[[KEY, "week", "number"]].assign(at=at).sort_values([KEY, "number"], ignore_index=True)
    newer = rows.groupby(KEY).cumcount(ascending=False).to_numpy()
    latest = _end_of(day) - newer * np.timedelta64(1, "us")
    return rows.assign(at=np.minimum(rows["at"].to_numpy("datetime64[us]"), latest))


def _end_of(day: date) -> np.datetime64:
    return np.datetime64(end_of(day).replace(tzinfo=None), "us")


# --- what is in them -----------------------------------------------------------------------------------


def _computed(layers: list[pd.DataFrame], rows: pd.DataFrame) -> pa.Table:
    """The features of `rows` (topic, week, number, at, told_on) from layers of what is known, later over earlier."""
    blocks = _blocks(rows)
    wanted = dict(list(rows.groupby(rows[KEY].map(blocks))))
    told = [dict(list(layer.groupby(layer[KEY].map(blocks)))) for layer in layers]
    parts = [SCHEMA.empty_table()]
    for block, some in wanted.items():
        places = {name: place for place, name in enumerate(sorted(some[KEY].unique()))}
        first, last = int(some["number"].min()) - _REACH, int(some["number"].max())
        values = np.full((len(places), last - first + 1, len(INDICATOR_NAMES)), np.nan)
        for layer in told:
            if block in layer:
                _lay(values, layer[block], places, first)
        topic = some[KEY].map(places).to_numpy()
        parts.append(_features(some, topic, some["number"].to_numpy() - first, values))
    return pa.concat_tables(parts)


def _blocks(rows: pd.DataFrame) -> dict[str, int]:
    """Topic → block: so many topics in one that they fit, those with as long a history together."""
    began = rows.groupby(KEY)["number"].min().sort_values(kind="stable")
    last = int(rows["number"].max()) if len(rows) else 0
    blocks: dict[str, int] = {}
    start = 0
    while start < len(began):
        size = max(1, _CELLS // (last - int(began.iloc[start]) + 1 + _REACH))
        blocks |= dict.fromkeys(began.index[start : start + size], start)
        start += size
    return blocks


def _lay(values: velocity.Floats, layer: pd.DataFrame, places: dict[str, int], first: int) -> None:
    """Put what a layer says into values[topics, weeks, 5], whose weeks begin with number `first`."""
    layer = layer[layer["number"].between(first, first + values.shape[1] - 1)]
    spot = (layer[KEY].map(places).to_numpy(), layer["number"].to_numpy() - first)
    said = layer[NAMES].to_numpy()
    values[spot] = np.where(np.isnan(said), values[spot], said)


def _features(rows: pd.DataFrame, topic: np.ndarray, week: np.ndarray, values: velocity.Floats) -> pa.Table:
    """Of values[topics, weeks, 5] the features of the weeks values[topic[i], week[i]], a row each."""
    smoothed = velocity.smooth(values)
    usual, spread = np.full_like(values, np.nan), np.full_like(values, np.nan)
    score, coverage = np.full(values.shape[:2], np.nan), np.zeros(values.shape[:2])
    for w in np.unique(np.concatenate([week - lag for lag in _LAGS])):
        usual[:, w], spread[:, w] = velocity.usual_of(smoothed[:, w - velocity.PAST : w])
        window = values[:, w - velocity.WINDOW + 1 : w + 1]
        score[:, w], coverage[:, w] = velocity.score(window, usual[:, w], spread[:, w])

    def ago(weeks: int) -> velocity.Floats:
        return score[topic, week - weeks]

    season = {name: _season(name) for name in rows["week"].unique()}
    columns = {
        KEY: rows[KEY],
        EVENT_TIMESTAMP: pd.Series(rows["at"].to_numpy()).dt.tz_localize("UTC"),
        "week": rows["week"],
        "told_on": rows["told_on"],
        "velocity": ago(0),
        "coverage": coverage[topic, week],
        "velocity_change_4w": ago(0) - ago(HORIZON),
        "velocity_change_13w": ago(0) - ago(QUARTER),
        "velocity_change_year_ago": ago(YEAR - HORIZON) - ago(YEAR),
        "season_sin": rows["week"].map({name: math.sin(angle) for name, angle in season.items()}),
        "season_cos": rows["week"].map({name: math.cos(angle) for name, angle in season.items()}),
        "velocity_definition": [velocity.DEFINITION] * len(rows),
    }
    for place, name in enumerate(INDICATOR_NAMES):
        columns[f"{name}_usual"] = usual[topic, week, place]
        columns[f"{name}_spread"] = spread[topic, week, place]
        for weeks in range(TOPIC_WINDOW):
            columns[window_column(name, weeks)] = values[topic, week - weeks, place]
    arrays = [pa.array(columns[field.name], field.type, from_pandas=True) for field in SCHEMA]  # NaN → null
    return pa.table(arrays, schema=SCHEMA)


def _season(week: str) -> float:
    """Where in the year the week's Monday lies, as an angle."""
    start = monday(week)
    return 2 * math.pi * (start - date(start.year, 1, 1)).days / 365.25
