"""The features: names, meanings, and which of them the watch compares from day to day.

`feature_repo` computes them, Feast stores them, training and serving read them; all by these names.
A row with `event_timestamp` t (midnight UTC that ends a day) knows only what was published up to that day.
Windows are bounded, so a night costs the same in its second year as in its second week. They count published
days, so an event that arrives late counts on the day that first saw it.
Every known user and item has a row each day. A session is what one user did under one `session_id` on one
published day, from its first event to its last: 0 minutes if there is one. An item that is not in the catalogue
has no category and no price.
Topics are weekly: a row is written when a week is told, or told anew, and is known from that moment on; weeks that
came with a topic's opening count as known when they ended.
"""

from __future__ import annotations

from dataclasses import dataclass

from nightshift.contracts.indicators import INDICATOR_NAMES

WINDOW_DAYS = 28  # four whole weeks: every weekday counts equally


@dataclass(frozen=True)
class Feature:
    """One feature. `watched`: describes the newest day alone, so that a shift shows the same day."""

    name: str
    meaning: str
    dtype: str = "float"  # or "string"
    watched: bool = False


USER_FEATURES = (
    Feature("interactions_28d", "Interactions in the last 28 days; 0 if none."),
    Feature("active_days_28d", "Days with at least one interaction (frequency); 0 if none."),
    Feature("recency_days", "Days since the last interaction; 0 = on the day; null if none."),
    Feature("spend_28d", "Sum of purchase values (monetary); 0 if none."),
    Feature("purchase_share_28d", "Purchases ÷ interactions; null without interactions."),
    Feature("category_entropy_28d", "Shannon entropy (nats) of the categories met: diversity; null if none."),
    Feature("session_minutes_mean_28d", "Mean session length in minutes; null without sessions."),
    Feature("session_minutes_std_28d", "Its population standard deviation; null without sessions."),
    Feature("rating_mean_28d", "Mean rating given; null if none."),
    Feature(
        "favourite_category_28d",
        "Category met most often (ties: first by name); null if none.",
        dtype="string",
    ),
    Feature("interactions_1d", "Interactions on the day; null if the user was away.", watched=True),
    Feature("category_entropy_1d", "Entropy of the day's categories; null if away.", watched=True),
    Feature("session_minutes_1d", "Mean session length of the day; null if away.", watched=True),
    Feature("mean_price_1d", "Mean price over the day's interactions; null if away.", watched=True),
    Feature("mobile_share_1d", "Share of the day's interactions on mobile; null if away.", watched=True),
    Feature("purchase_share_1d", "Purchases ÷ interactions of the day; null if away.", watched=True),
)

ITEM_FEATURES = (
    Feature("unique_users_28d", "Distinct users who met the item."),
    Feature("interactions_28d", "Interactions with the item."),
    Feature("rating_mean_28d", "Mean rating; null if none."),
    Feature("popularity_28d", "Interactions ÷ all interactions in the window."),
    Feature("popularity_in_category_28d", "Interactions ÷ the mean of its category's items; null if all 0."),
    Feature("age_days", "Days since the item was first on offer; 0 until then."),
    Feature("recency_days", "Days since its last interaction; null if none in the window."),
    Feature("price", "Current price."),
)

TOPIC_WINDOW = 4  # weeks of indicators that a forecast is made from
HORIZON = 4  # weeks ahead


def window_column(indicator: str, weeks_ago: int) -> str:
    """The feature that holds an indicator's value `weeks_ago` weeks before the described week."""
    return f"{indicator}_w{weeks_ago}"


TOPIC_FEATURES = (
    Feature("week", "The ISO week that the row describes, the newest known then.", dtype="string"),
    Feature(
        "told_on",
        "The published day that told of it; an opening's history counts from earlier.",
        dtype="string",
    ),
    *(
        Feature(window_column(name, ago), f"{name}, {ago} weeks before the week; null if not known then.")
        for name in INDICATOR_NAMES
        for ago in reversed(range(TOPIC_WINDOW))
    ),
    *(
        Feature(
            f"{name}_usual", f"Median of {name}'s four-week means over the two years before; null if < 26."
        )
        for name in INDICATOR_NAMES
    ),
    *(
        Feature(
            f"{name}_spread", f"Their spread (1.4826 x median absolute deviation) for {name}; null if < 26."
        )
        for name in INDICATOR_NAMES
    ),
    Feature("velocity", "Velocity score, 0..100 (nightshift.velocity); null under half the weight."),
    Feature("coverage", "Share of the velocity's weight that was known, 0..1."),
    Feature("velocity_change_4w", "Velocity minus that of 4 weeks before; null if unknown."),
    Feature("velocity_change_13w", "Velocity minus that of 13 weeks before; null if unknown."),
    Feature(
        "velocity_change_year_ago",
        "What it changed in the 4 weeks after this week a year ago; null if unknown.",
    ),
    Feature("season_sin", "Sine of the time of year of the week's Monday."),
    Feature("season_cos", "Cosine of the time of year of the week's Monday."),
    Feature("velocity_definition", "Version of the velocity's formula.", dtype="string"),
)

USER_VIEW, ITEM_VIEW, TOPIC_VIEW = "user_features", "item_features", "topic_features"


@dataclass(frozen=True)
class View:
    """One table of features. What Feast, the builder, training, serving and the watch know of it.

    daily: every key has a row at the end of each published day; else a row is written when something was told.
    ttl_days: an older row says nothing about the present one.
    watched: what the watch compares from day to day.
    settles_days: how many days a retrain asked for on drift covers: until then another would learn nothing more.
    """

    name: str
    key: str
    features: tuple[Feature, ...]
    ttl_days: int
    daily: bool
    watched: tuple[str, ...] = ()
    settles_days: int = 3


VIEWS: dict[str, View] = {
    view.name: view
    for view in (
        View(USER_VIEW, "user_id", USER_FEATURES, WINDOW_DAYS, daily=True,
             watched=tuple(f.name for f in USER_FEATURES if f.watched)),
        View(ITEM_VIEW, "item_id", ITEM_FEATURES, WINDOW_DAYS, daily=True),
        View(TOPIC_VIEW, "topic", TOPIC_FEATURES, 60, daily=False,
             watched=tuple(window_column(name, 0) for name in INDICATOR_NAMES),
             settles_days=84),  # the exam keeps the newest twelve weeks from training
    )
}  # fmt: skip
SERVICES = {"recommender": (USER_VIEW, ITEM_VIEW), "forecaster": (TOPIC_VIEW,)}  # seat → what it may use


def numeric(features: tuple[Feature, ...]) -> list[str]:
    return [f.name for f in features if f.dtype == "float"]
