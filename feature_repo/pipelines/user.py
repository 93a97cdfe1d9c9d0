"""User features at the end of a day: how much, how recently, how widely, for how long, and on the day itself.

A pure function of Ibis tables, so that the same expression runs on DuckDB here and on Spark elsewhere.
Every user that is known has a row, also one who was away for the whole window: the point-in-time join always
finds a true row and never a stale one.
"""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir

from feature_repo.pipelines.common import attach, days_between, exact_sum, in_window, output, ratio
from nightshift.contracts.features import USER_FEATURES

KEY = "user_id"


def user_features(interactions: ir.Table, items: ir.Table, users: ir.Table, day: date) -> ir.Table:
    """One row per user known on `day` or met in its window; columns `user_id, event_timestamp, USER_FEATURES`.

    interactions: the contract's columns and `day`, the published day (date); rows outside the window are ignored.
    items, users: as known at the end of `day`. An interaction with an item that is not in `items` counts as an
    interaction, but has no category and no price.
    """
    met = in_window(interactions, day).left_join(items.select("item_id", "category", "price"), "item_id")
    today = met.filter(met.day == ibis.date(day))
    sessions = _sessions(met)
    everyone = _ids(users).union(_ids(met), distinct=True)
    parts = [
        _activity(met, day),
        _entropy(met, "category_entropy_28d"),
        _session_length(sessions),
        _favourite(met),
        _day_activity(today),
        _entropy(today, "category_entropy_1d"),
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
        active_days_28d=met.day.nunique(),
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


def _sessions(met: ir.Table) -> ir.Table:
    """Seconds from first to last event of each session; one that crosses published days counts as two."""
    known = met.filter(met.session_id.notnull())
    return known.group_by(KEY, "day", "session_id").aggregate(
        seconds=known["at"].max().epoch_seconds() - known["at"].min().epoch_seconds()
    )


def _session_length(sessions: ir.Table) -> ir.Table:
    # From whole seconds, whose sums are exact: the same whatever order they are added in.
    seconds = sessions.seconds.cast("int64")
    mean = ratio(seconds.sum(), seconds.count())
    variance = ratio((seconds * seconds).sum(), seconds.count()) - mean * mean
    return sessions.group_by(KEY).aggregate(
        session_minutes_mean_28d=mean / 60.0,
        session_minutes_std_28d=ibis.greatest(variance, 0.0).sqrt() / 60.0,
    )


def _day_session_length(sessions: ir.Table) -> ir.Table:
    seconds = sessions.seconds.cast("int64")
    return sessions.group_by(KEY).aggregate(session_minutes_1d=ratio(seconds.sum(), seconds.count()) / 60.0)


def _categories(met: ir.Table) -> ir.Table:
    known = met.filter(met.category.notnull())
    return known.group_by(KEY, "category").aggregate(n=known.count())


def _entropy(met: ir.Table, name: str) -> ir.Table:
    """Shannon entropy −Σ p ln p (nats) of each user's categories; 0 for one category, at most ln(categories)."""
    counts = _categories(met)
    share = counts.mutate(p=ratio(counts.n, counts.n.sum().over(ibis.window(group_by=KEY))))
    return share.group_by(KEY).aggregate(**{name: exact_sum(-share.p * share.p.ln())})


def _favourite(met: ir.Table) -> ir.Table:
    counts = _categories(met)
    order = ibis.window(group_by=KEY, order_by=[counts.n.desc(), counts.category.asc()])
    ranked = counts.mutate(place=ibis.row_number().over(order))
    return ranked.filter(ranked.place == 0).select(KEY, favourite_category_28d="category")
