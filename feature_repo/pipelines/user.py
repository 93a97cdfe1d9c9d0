"""User features at the end of a day: how much, how recently, how widely, for how long, and on the day itself.

A pure function of Ibis tables, so that the same expression runs on DuckDB here and on Spark elsewhere.
Every user that is known has a row, also one who was away for the whole window: the point-in-time join always
finds a true row and never a stale one.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import ibis
import ibis.expr.types as ir

from feature_repo.pipelines.common import (
    attach,
    days_between,
    distinct_days,
    epoch,
    exact_sum,
    in_window,
    output,
    ratio,
)
from nightshift.contracts.features import USER_FEATURES

KEY = "user_id"


def user_features(interactions: ir.Table, items: ir.Table, users: ir.Table, day: date) -> ir.Table:
    """One row per user known on `day` or met in its window; columns `user_id, event_timestamp, USER_FEATURES`.

    interactions: the contract's columns and `day`, the published day (date); rows outside the window are ignored.
    items, users: as known at the end of `day`. An interaction with an item that is not in `items` counts as an
    interaction, but has no category and no price.
    """
    window = in_window(interactions, day)
    known = items.select("item_id", "category", "price")
    today = window.filter(window.day == ibis.date(day)).left_join(known, "item_id")
    sessions = _sessions(window)
    activity = _activity(window, day)
    everyone = _ids(users).union(_ids(activity), distinct=True)
    categories, categories_today = _categories(window.left_join(known, "item_id")), _categories(today)
    parts = [
        activity,
        _taste(categories, category_entropy_28d=_entropy, favourite_category_28d=_favourite),
        _session_length(sessions),
        _day_activity(today),
        _taste(categories_today, category_entropy_1d=_entropy),
        _day_session_length(sessions.filter(sessions.day == ibis.date(day))),
    ]
    table = attach(everyone, parts, KEY)
    away = {name: table[name].fill_null(0) for name in ("interactions_28d", "active_days_28d", "spend_28d")}
    return output(table.mutate(**away), KEY, USER_FEATURES, day)


def _ids(table: ir.Table) -> ir.Table:
    # A union needs equal types, and Ibis calls `string` and `string, never null` different ones.
    return table.select(table[KEY].cast("string").name(KEY))


def _activity(met: ir.Table, day: date) -> ir.Table:
    paid = (met.kind == "purchase").ifelse(met.value, ibis.null("float64"))
    rated = (met.kind == "rating").ifelse(met.value, ibis.null("float64"))
    return met.group_by(KEY).aggregate(
        interactions_28d=met.count(),
        active_days_28d=distinct_days(met.day, day),
        recency_days=days_between(day, met.day.max()),
        spend_28d=exact_sum(paid).fill_null(0.0),
        purchase_share_28d=ratio(met.count(where=met.kind == "purchase"), met.count()),
        rating_mean_28d=ratio(exact_sum(rated), rated.count()),
    )


def _day_activity(today: ir.Table) -> ir.Table:
    return today.group_by(KEY).aggregate(
        interactions_1d=today.count(),
        mean_price_1d=ratio(exact_sum(today.price), today.price.count()),
        mobile_share_1d=ratio(today.count(where=today.device == "mobile"), today.count()),
        purchase_share_1d=ratio(today.count(where=today.kind == "purchase"), today.count()),
    )


def _sessions(window: ir.Table) -> ir.Table:
    """Seconds from first to last event of each session; one that crosses published days counts as two."""
    known = window.filter(window.session_id.notnull())
    return known.group_by(KEY, "day", "session_id").aggregate(
        seconds=epoch(known["at"].max()) - epoch(known["at"].min())
    )


def _session_length(sessions: ir.Table) -> ir.Table:
    # Sums that are exact, the same whatever order they are added in: seconds since 1970 as float64 are whole multiples
    # of 2^-22, and so are their differences. Their squares are not, and are added in whole milliseconds.
    mean = ratio(sessions.seconds.sum(), sessions.seconds.count())
    length = (sessions.seconds * 1_000.0).round().cast("int64")
    mean_ms = ratio(length.sum(), length.count())
    variance = ratio((length * length).sum(), length.count()) - mean_ms * mean_ms
    return sessions.group_by(KEY).aggregate(
        session_minutes_mean_28d=mean / 60.0,
        session_minutes_std_28d=ibis.greatest(variance, 0.0).sqrt() / 60_000.0,
    )


def _day_session_length(sessions: ir.Table) -> ir.Table:
    mean = ratio(sessions.seconds.sum(), sessions.seconds.count())
    return sessions.group_by(KEY).aggregate(session_minutes_1d=mean / 60.0)


def _categories(met: ir.Table) -> ir.Table:
    known = met.filter(met.category.notnull())
    return known.group_by(KEY, "category").aggregate(n=known.count())


def _taste(counts: ir.Table, **features: Callable[[ir.Table], ir.Value]) -> ir.Table:
    """Per user, `features` of its categories, each beside the user's `total` and the `most` of one category.

    By a join with the users' sums and no window function: a window would keep and sort every row that it is for.
    """
    of_user = counts.group_by(KEY).aggregate(total=counts.n.sum(), most=counts.n.max())
    beside = counts.join(of_user, KEY)
    return beside.group_by(KEY).aggregate(**{name: feature(beside) for name, feature in features.items()})


def _entropy(counts: ir.Table) -> ir.Value:
    """Shannon entropy −Σ p ln p (nats) of each user's categories; 0 for one category, at most ln(categories)."""
    share = ratio(counts.n, counts.total)
    return exact_sum(-share * share.ln())


def _favourite(counts: ir.Table) -> ir.Value:
    return counts.category.min(where=counts.n == counts.most)
