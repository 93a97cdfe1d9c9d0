"""What the market tells of its topics: five indicators a week, with planted leads, seasons, regimes and a boom.

People's interest in a topic grows now faster, now slower. That growth is never told itself; it is the sum of

    momentum   AR(1), 0.9 a week: what grows keeps growing, for about two months
    season     a wave of one year; the topics' phases lie evenly, so that all topics together stand still
    regime     once in each 78 weeks, on a date of its own, a topic gets another mean and another volatility

and every indicator is what it was some weeks ago, with noise:

    search_volume_growth     of the same week         funding_volume_growth     5 weeks later
    learning_demand_growth   2 weeks later            patent_filing_rate        counts, 10 weeks later
    policy_change_frequency  Poisson counts, 1 week later: fewer where interest grows

So search knows what learning and funding are about to do, funding knows it of patents, and momentum goes on.
From the week of `settings.market_drift_day` on, 70 % of the topics boom: search and learning at once, funding,
patents and policy after their lags.

A week is told on the Wednesday after it ends; the first day tells of five years. 1 % of the values are missing,
2 % of a week's rows come one or two weeks late, and in 10 % one figure is revised a little two weeks after it was
told. What is true of a week, and when it is told, depends on the seed, the topic and the week alone: any day can
be computed on its own, and a market of more topics has the same first ones.
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from nightshift.contracts.indicators import INDICATOR_NAMES, INDICATORS, week_of
from nightshift.settings import Settings
from nightshift.sources.market.words import topic_name

HISTORY_WEEKS = 260  # told of on the first day
TOLD_AFTER = timedelta(days=9)  # from a week's Monday to the Wednesday that tells it

MOMENTUM = 0.9  # of its growth that interest keeps from week to week
MEMORY = 52  # weeks until a push is forgotten: 0.9^52 is 0.4 %, and no week needs more than a year before it
YEAR = 365.25 / 7  # weeks
GOLDEN = 0.618034  # its multiples, modulo 1, lie evenly however many there are
REGIME_WEEKS = 78
BOOM_SHARE, BOOM = 0.7, 1.5  # of the topics; in units of interest, whose standard deviation is about 1.2

# Drawn evenly from (low, high): per topic the season's amplitude and the usual counts; per regime the rest.
SEASON, PATENTS, POLICY = (0.3, 1.0), (8.0, 50.0), (1.0, 4.0)
MEAN, VOLATILITY = (-0.6, 0.6), (0.6, 1.4)

FUNDING, PATENT, LEARNING, SEARCH, POLICY_CHANGE = range(len(INDICATOR_NAMES))
LAGS = (5, 10, 2, 0, 1)  # weeks after interest
GROWTHS = {FUNDING: (0.10, 0.8), LEARNING: (0.04, 0.6), SEARCH: (0.06, 0.6)}  # size, and noise in its units
COUNT_SLOPE = 0.35  # how strongly patents rise and policy changes fall with interest, in the exponent
DECIMALS = 4  # of a growth

MISSING, LATE, REVISED = 0.01, 0.02, 0.10
REVISABLE = (FUNDING, PATENT, LEARNING, SEARCH)
REVISED_AFTER = 2  # weeks after it was told
REVISION = 0.3  # of a growth, in standard deviations of its noise
UNCOUNTED = 0.05  # of the patents, at first

# What a random stream is for, beside those of world.py.
NORMAL_STREAM, UNIFORM_STREAM, REGIME_STREAM, TOPIC_STREAM = 5, 6, 7, 8
PUSH, NOISE, ERROR = 0, slice(1, 5), 5  # normals of a topic's week; the noise is of the first four indicators
LATENESS, REVISION_LUCK, REVISED_ONE, POLICY_LUCK, MISSING_LUCK = 0, 1, 2, 3, slice(4, 9)  # its uniforms


class Indicators:
    """The topics' weeks as the market tells them. Weeks are numbered in a row, see `_number`."""

    def __init__(self, settings: Settings) -> None:
        self.seed = settings.market_seed % 2**32
        self.topics = settings.market_topics
        self.opening = settings.market_start
        self.boom_week = _number(settings.market_drift_day)

    def told(self, day: date) -> pa.Table:
        """The rows of contract `indicators` that become known on `day`: five years on the first, then Wednesdays."""
        newest = _number(day - TOLD_AFTER)
        if day == self.opening:
            return self._table(np.arange(newest - HISTORY_WEEKS, newest) + 1, newest, opening=True)
        if day - TOLD_AFTER != _monday(newest):
            return INDICATORS.table([])
        return self._table(np.arange(newest - 2 - REVISED_AFTER, newest + 1), newest, opening=False)

    def _table(self, weeks: np.ndarray, newest: int, *, opening: bool) -> pa.Table:
        """What is told of `weeks` (in a row) when `newest` is due; the opening also tells what was due before."""
        first, final, late = self._reports(weeks)
        changed = (first != final) & ~np.isnan(final)
        due = weeks[:, None] + late
        revised = due + REVISED_AFTER
        if opening:
            rows = due <= newest
            values = np.where(revised[..., None] <= newest, final, first)
        else:
            rows = (due == newest) | (changed.any(axis=2) & (revised == newest))
            values = np.where(due[..., None] == newest, first, np.where(changed, final, np.nan))
        topic, week = np.nonzero(rows.T)
        names = pa.array([topic_name(number) for number in range(self.topics)])
        columns = {
            "topic": names.take(pa.array(topic)),
            "week": pa.array([week_of(_monday(number)) for number in weeks.tolist()]).take(pa.array(week)),
        }
        for name, figures in zip(INDICATOR_NAMES, values[week, topic].T, strict=True):
            columns[name] = pa.array(figures, from_pandas=True)
        return INDICATORS.cast(pa.table(columns))

    def _reports(self, weeks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is told of `weeks` at first and at last, [weeks, topics, indicators], and how many weeks late."""
        normal = self._normals(weeks)
        luck = np.stack([self._random(UNIFORM_STREAM, week).random((self.topics, 9)) for week in weeks])
        final = self._truth(weeks, normal[..., NOISE], luck[..., POLICY_LUCK])
        final[luck[..., MISSING_LUCK] < MISSING] = np.nan
        first = final.copy()
        one = (luck[..., REVISED_ONE] * len(REVISABLE)).astype(int)
        for n, column in enumerate(REVISABLE):
            revised = (luck[..., REVISION_LUCK] < REVISED) & (one == n)
            first[..., column] = np.where(
                revised, _at_first(column, final, normal[..., ERROR]), final[..., column]
            )
        late = (luck[..., LATENESS] < LATE).astype(int) + (luck[..., LATENESS] < LATE / 2)
        return first, final, late

    def _truth(self, weeks: np.ndarray, noise: np.ndarray, luck: np.ndarray) -> np.ndarray:
        """The five indicators of `weeks`, [weeks, topics, indicators]."""
        longest = max(LAGS)
        interest = self._interest(np.arange(weeks[0] - longest, weeks[-1] + 1))
        booming, _, patents, policy = self._of_topics()
        truth = np.empty((len(weeks), self.topics, len(LAGS)))
        for column, lag in enumerate(LAGS):
            since = self.boom_week + (0 if column in (SEARCH, LEARNING) else lag)
            boom = BOOM * np.outer(weeks >= since, booming < BOOM_SHARE)
            felt = interest[longest - lag : longest - lag + len(weeks)] + boom
            if column in GROWTHS:
                size, spread = GROWTHS[column]
                truth[..., column] = np.round(size * (felt + spread * noise[..., column]), DECIMALS)
            elif column == PATENT:
                mean = _between(PATENTS, patents) * np.exp(COUNT_SLOPE * felt)
                truth[..., column] = np.round(mean + np.sqrt(mean) * noise[..., column]).clip(0)
            else:
                truth[..., column] = _poisson(_between(POLICY, policy) * np.exp(-COUNT_SLOPE * felt), luck)
        return truth

    def _interest(self, weeks: np.ndarray) -> np.ndarray:
        """How fast interest grows in `weeks` (in a row), [weeks, topics], but for the boom."""
        push = self._normals(np.arange(weeks[0] - MEMORY + 1, weeks[-1] + 1))[..., PUSH]
        momentum = np.zeros((len(weeks), self.topics))
        for ago in range(MEMORY):  # the same sum for a week whatever is asked with it, to the last bit
            first = MEMORY - 1 - ago
            momentum += MOMENTUM**ago * push[first : first + len(weeks)]
        _, amplitude, _, _ = self._of_topics()
        phase = GOLDEN * np.arange(self.topics)
        season = _between(SEASON, amplitude) * np.sin(2 * np.pi * (weeks[:, None] / YEAR + phase))
        mean, volatility = self._regimes(weeks)
        return mean + season + volatility * np.sqrt(1 - MOMENTUM**2) * momentum

    def _regimes(self, weeks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mean, volatility) in force in `weeks`, [weeks, topics]."""
        period, week = np.divmod(weeks, REGIME_WEEKS)
        periods = range(int(period[0]) - 1, int(period[-1]) + 1)
        drawn = np.stack([self._random(REGIME_STREAM, number).random((self.topics, 3)) for number in periods])
        this = period - periods[0]
        changed = week[:, None] >= REGIME_WEEKS * drawn[this, :, 0]
        found = np.where(changed[..., None], drawn[this], drawn[this - 1])
        return _between(MEAN, found[..., 1]), _between(VOLATILITY, found[..., 2])

    def _normals(self, weeks: np.ndarray) -> np.ndarray:
        return np.stack(
            [self._random(NORMAL_STREAM, week).standard_normal((self.topics, 6)) for week in weeks]
        )

    def _of_topics(self) -> np.ndarray:
        """Uniform draws [4, topics]: who booms, season, patents, policy."""
        return self._random(TOPIC_STREAM).random((self.topics, 4)).T

    def _random(self, stream: int, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, stream, *key])


def _at_first(column: int, final: np.ndarray, error: np.ndarray) -> np.ndarray:
    """What is told of a figure that will be revised."""
    if column == PATENT:
        return final[..., column] - np.ceil(UNCOUNTED * final[..., column])
    size, noise = GROWTHS[column]
    return np.round(final[..., column] + REVISION * size * noise * error, DECIMALS)


def _poisson(mean: np.ndarray, luck: np.ndarray) -> np.ndarray:
    """Poisson counts by inversion of uniform `luck`: one number each, so that no draw depends on another."""
    count = np.zeros(mean.shape)
    chance = np.exp(-mean)
    total = chance.copy()
    for number in range(1, int(mean.max() + 10 * np.sqrt(mean.max()) + 10)):
        count += luck > total
        chance *= mean / number
        total += chance
    return count


def _between(bounds: tuple[float, float], uniform: np.ndarray) -> np.ndarray:
    return bounds[0] + (bounds[1] - bounds[0]) * uniform


def _number(day: date) -> int:
    """The number of the ISO week that a day is in."""
    return (day.toordinal() - 1) // 7


def _monday(number: int) -> date:
    return date.fromordinal(7 * number + 1)
