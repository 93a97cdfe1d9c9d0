"""Item features at the end of a day: how many met it, how it stands in its category, how old and fresh it is.

A pure function of Ibis tables, like the user pipeline. Every item that is known has a row.
"""

from __future__ import annotations

from datetime import date

import ibis
import ibis.expr.types as ir

from feature_repo.pipelines.common import attach, days_between, exact, in_window, output, ratio
from nightshift.contracts.features import ITEM_FEATURES

KEY = "item_id"


def met_by(interactions: ir.Table, day: date) -> ir.Table:
    """What `item_features` has to know of some users' interactions: one row per item that they met in the window.

    interactions: the contract's columns and `day`, the published day (date); rows outside the window are ignored.
    """
    window = in_window(interactions, day)
    rated = (window.kind == "rating").ifelse(window.value, ibis.null("float64"))
    # Pairs first, and no nunique: DuckDB would keep every row of the window to go through it once more.
    pairs = window.group_by(KEY, "user_id").aggregate(
        interactions=window.count(), rating=exact(rated).sum(), rated=rated.count(), last_day=window.day.max()
    )
    return pairs.group_by(KEY).aggregate(
        users=pairs.count(),
        interactions=pairs.interactions.sum(),
        rating=pairs.rating.sum(),
        rated=pairs.rated.sum(),
        last_day=pairs.last_day.max(),
    )


def item_features(met: ir.Table, items: ir.Table, day: date) -> ir.Table:
    """One row per item known on `day`; columns `item_id, event_timestamp, ITEM_FEATURES`.

    met: `met_by` of all users, each of whom is in one of its parts. items: as known at the end of `day`.
    """
    total = met.aggregate(total=met.interactions.sum())
    known = items.select(KEY, "category", "price", age_days=_age(items, day))
    met = attach(known, [_added(met, day)], KEY)
    met = met.mutate(
        interactions_28d=met.interactions_28d.fill_null(0), unique_users_28d=met.unique_users_28d.fill_null(0)
    ).cross_join(total)
    category = ibis.window(group_by="category")
    category_mean = ratio(met.interactions_28d.sum().over(category), met.count().over(category))
    table = met.mutate(
        popularity_28d=ratio(met.interactions_28d, met.total).fill_null(0.0),
        popularity_in_category_28d=ratio(met.interactions_28d, category_mean),
    )
    return output(table, KEY, ITEM_FEATURES, day)


def _age(items: ir.Table, day: date) -> ir.Value:
    # A catalogue may announce an item before it is on offer: its age is 0 until then.
    return ibis.greatest(days_between(day, items.created_at.cast("timestamp('UTC')").date()), 0.0)


def _added(met: ir.Table, day: date) -> ir.Table:
    return met.group_by(KEY).aggregate(
        unique_users_28d=met.users.sum(),
        interactions_28d=met.interactions.sum(),
        rating_mean_28d=ratio(met.rating.sum(), met.rated.sum()),
        recency_days=days_between(day, met.last_day.max()),
    )
