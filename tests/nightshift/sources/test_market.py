"""The simulated world: deterministic, by contract, with the structure it says is planted, and no other."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from nightshift.contracts import CONTRACTS
from nightshift.errors import SourceError
from nightshift.settings import Settings
from nightshift.sources import DayBatch, open_source
from nightshift.sources.market import Market, visits

START, DRIFT = date(2026, 9, 1), date(2026, 10, 1)
WARM_UP = 28  # days of history before the days looked at
LAST = 44


def market_of(**changes: object) -> Market:
    return Market(Settings(_env_file=None, **{"market_start": START, "market_drift_day": DRIFT, **changes}))


def after(days: int) -> date:
    return START + timedelta(days=days)


@pytest.fixture(scope="module")
def market() -> Market:
    return market_of()


@pytest.fixture(scope="module")
def days(market: Market) -> list[DayBatch]:
    return [market.read(after(number)) for number in range(LAST)]


@pytest.fixture(scope="module")
def items(days: list[DayBatch]) -> pd.DataFrame:
    return pa.concat_tables([day.tables["items"] for day in days]).to_pandas().set_index("item_id")


@pytest.fixture(scope="module")
def behaviour(days: list[DayBatch], items: pd.DataFrame) -> list[pd.DataFrame]:
    """The watched features of each day: one row per active user."""
    return [watched(day.tables["interactions"].to_pandas(), items) for day in days]


def watched(events: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    events = events.assign(
        price=events.item_id.map(items.price),
        category=events.item_id.map(items.category),
        mobile=events.device == "mobile",
        purchase=events.kind == "purchase",
    )
    users = events.groupby("user_id")
    visit = events.groupby(["user_id", "session_id"])["at"]
    minutes = (visit.max() - visit.min()).dt.total_seconds() / 60
    shares = events.groupby(["user_id", "category"]).size()
    shares = shares / shares.groupby("user_id").transform("sum")
    return pd.DataFrame(
        {
            "interactions": users.size(),
            "category_entropy": -(shares * np.log(shares)).groupby("user_id").sum(),
            "session_minutes": minutes.groupby("user_id").mean(),
            "mean_price": users.price.mean(),
            "mobile_share": users.mobile.mean(),
            "purchase_share": users.purchase.mean(),
        }
    )


def same(one: DayBatch, other: DayBatch) -> bool:
    return one.counts == other.counts and all(one.tables[n].equals(other.tables[n]) for n in CONTRACTS)


# --- determinism ---------------------------------------------------------------------------------------


def test_a_day_is_the_same_whatever_was_read_before_it(days: list[DayBatch]) -> None:
    fresh = market_of()
    for number in (31, 3, 17, 0):
        assert same(fresh.read(after(number)), days[number])


def digest(batch: DayBatch) -> str:
    return hashlib.sha256(repr([batch.tables[name].to_pylist() for name in CONTRACTS]).encode()).hexdigest()


def test_a_day_is_the_same_in_another_process(days: list[DayBatch]) -> None:
    program = (
        "import hashlib; from datetime import date; from nightshift.contracts import CONTRACTS;"
        "from nightshift.settings import Settings; from nightshift.sources import open_source;"
        "batch = open_source('market', Settings(_env_file=None)).read(date(2026, 9, 18));"
        "rows = repr([batch.tables[name].to_pylist() for name in CONTRACTS]);"
        "print(hashlib.sha256(rows.encode()).hexdigest())"
    )
    threads = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONHASHSEED": "5"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=threads
    )
    assert done.stdout.strip() == digest(days[17])


def test_another_seed_is_another_world(days: list[DayBatch]) -> None:
    assert not same(market_of(market_seed=8).read(START), days[0])


def test_the_drift_day_changes_nothing_before_it(days: list[DayBatch]) -> None:
    never = market_of(market_drift_day=date(2030, 1, 1))
    before, on = (DRIFT - START).days - 1, (DRIFT - START).days
    assert same(never.read(after(before)), days[before])
    assert not same(never.read(after(on)), days[on])


def test_what_was_sold_before_stays_as_it_is_when_the_catalogue_grows(market: Market) -> None:
    early, late = market.world.items(after(5)), market.world.items(after(30))
    np.testing.assert_array_equal(early.style, late.style[: len(early)])
    early_users, late_users = market.world.users(after(5)), market.world.users(after(30))
    np.testing.assert_array_equal(early_users.taste, late_users.taste[: len(early_users)])


# --- the day as a batch --------------------------------------------------------------------------------


def test_the_settings_name_opens_the_market() -> None:
    source = open_source("market", Settings(_env_file=None, market_start=START))
    assert isinstance(source, Market) and source.first_day() == START
    assert source.next_day(START - timedelta(days=9)) == START
    assert source.next_day(START) == after(1)


def test_there_is_nothing_before_the_first_day(market: Market) -> None:
    with pytest.raises(SourceError, match=r"no 2026-08-31.*starts on 2026-09-01.*NIGHTSHIFT_MARKET_START"):
        market.read(START - timedelta(days=1))


def test_every_table_follows_its_contract(days: list[DayBatch]) -> None:
    for day in (days[0], days[9]):
        assert set(day.tables) == set(CONTRACTS)
        for name, contract in CONTRACTS.items():
            table = day.tables[name]
            assert table.schema.equals(contract.schema)
            for column in contract.columns:
                values = table[column.name].to_pandas()
                assert column.nullable or not values.isna().any()
                assert not column.unique or values.is_unique
                assert column.allowed is None or set(values) <= set(column.allowed)


def test_all_that_is_read_is_kept(days: list[DayBatch]) -> None:
    for day in days:
        rows = sum(day.tables[name].num_rows for name in ("interactions", "indicators", "conversations"))
        assert day.counts == {"read": rows, "kept": rows}


def test_everybody_comes_on_the_first_day_and_then_a_few_each_day(days: list[DayBatch]) -> None:
    assert [days[0].tables[n].num_rows for n in ("users", "items")] == [2_000, 1_000]
    for day in days[1:]:
        assert [day.tables[n].num_rows for n in ("users", "items")] == [4, 2]
        midnight = pd.Timestamp(day.day, tz="UTC")
        assert set(day.tables["users"]["registered_at"].to_pandas()) == {midnight}
        assert set(day.tables["items"]["created_at"].to_pandas()) == {midnight}
    assert days[0].tables["users"]["registered_at"].to_pandas().max() < pd.Timestamp(START, tz="UTC")
    assert days[0].tables["items"]["created_at"].to_pandas().max() < pd.Timestamp(START, tz="UTC")


def test_new_items_find_customers_and_nobody_meets_an_item_before_it_is_on_offer(
    days: list[DayBatch], items: pd.DataFrame
) -> None:
    events = pa.concat_tables([day.tables["interactions"] for day in days]).to_pandas()
    assert set(events.item_id) <= set(items.index)
    assert (events["at"] >= events.item_id.map(items.created_at)).all()
    introduced = items.index[items.created_at >= pd.Timestamp(after(1), tz="UTC")]
    assert events.item_id.isin(introduced[:20]).sum() > 100


def test_titles_are_readable_in_korean_and_english_and_hardly_repeat(items: pd.DataFrame) -> None:
    korean, english = items.title.str.split(" · ").str[0], items.title.str.split(" · ").str[1]
    assert korean.str.fullmatch(r"[가-힣]+( [가-힣]+){2}").all()
    assert english.str.fullmatch(r"[A-Z][A-Za-z]+( [A-Za-z-]+){2,5}").all()
    assert items.title.nunique() > 0.9 * len(items)
    assert items.category.nunique() == 12 and items.category.value_counts().min() > 40
    assert items.price.between(500, 500_000).all() and (items.price % 100 == 0).all()
    spread = np.log(items.price).groupby(items.category).std()
    assert spread.between(0.35, 0.65).all()  # log-normal within each category


# --- behaviour -----------------------------------------------------------------------------------------


def test_a_third_of_the_users_come_and_do_about_eight_things(days: list[DayBatch]) -> None:
    events = [day.tables["interactions"].to_pandas() for day in days[:28]]
    share = np.array([frame.user_id.nunique() for frame in events]) / 2_000
    assert ((share > 0.30) & (share < 0.45)).all()
    assert 7 < np.mean([len(frame) / frame.user_id.nunique() for frame in events]) < 10


def test_events_lie_within_their_day_in_order_and_a_visit_has_one_user_device_and_channel(
    days: list[DayBatch],
) -> None:
    for day in days[::7]:
        events = day.tables["interactions"].to_pandas()
        assert events["at"].is_monotonic_increasing
        assert set(events["at"].dt.date) == {day.day}
        per_visit = events.groupby("session_id")[["user_id", "device", "channel"]].nunique()
        assert (per_visit == 1).all(axis=None)


def test_each_meeting_runs_down_the_funnel(days: list[DayBatch]) -> None:
    events = days[4].tables["interactions"].to_pandas()
    kinds = events.groupby(["user_id", "item_id"]).kind.agg(list)
    before = {"click": "view", "add_to_cart": "click", "purchase": "add_to_cart", "rating": "purchase"}
    for met in kinds:
        assert met[0] == "view" and len(set(met)) == len(met)
        for kind, needed in before.items():
            assert kind not in met or needed in met[: met.index(kind)]
    count = events.kind.value_counts()
    assert count["view"] > count["click"] > count["add_to_cart"] > count["purchase"] > count["rating"] > 50
    assert {"like", "share"} <= set(count.index)


def test_values_are_prices_paid_and_stars_given(days: list[DayBatch], items: pd.DataFrame) -> None:
    events = days[4].tables["interactions"].to_pandas()
    bought, rated = events[events.kind == "purchase"], events[events.kind == "rating"]
    assert (bought.value == bought.item_id.map(items.price)).all()
    assert set(rated.value) <= {1.0, 2.0, 3.0, 4.0, 5.0} and rated.value.nunique() >= 3
    assert events[~events.kind.isin(["purchase", "rating"])].value.isna().all()


def test_people_rate_what_they_like_better(market: Market, days: list[DayBatch]) -> None:
    rated = pa.concat_tables([day.tables["interactions"] for day in days[:28]]).to_pandas()
    rated = rated[rated.kind == "rating"]
    liking = [
        float(
            market.truth([user], [item], after(14))[0, 0]
            - market.truth([user], market_ids(50), after(14)).mean()
        )
        for user, item in zip(rated.user_id[:600], rated.item_id[:600], strict=True)
    ]
    assert np.corrcoef(liking, rated.value[:600])[0, 1] > 0.1


def market_ids(count: int) -> list[str]:
    return [f"i{number:06d}" for number in range(count)]


def test_weekenders_make_weekends_differ_in_who_comes(market: Market, days: list[DayBatch]) -> None:
    weekender = market.world.users(after(27)).weekender

    def share(day: DayBatch) -> float:
        users = day.tables["interactions"]["user_id"].unique().to_pylist()
        return float(np.mean([weekender[int(user[1:])] for user in users]))

    saturdays = [share(day) for day in days[:28] if day.day.weekday() == 5]
    mondays = [share(day) for day in days[:28] if day.day.weekday() == 0]
    assert min(saturdays) > max(mondays)


def test_categories_have_their_season(market: Market) -> None:
    def affinity(day: date) -> np.ndarray:
        return market.world.item_vectors(day)[:1_000, -1]

    winter, summer = affinity(date(2026, 11, 26)), affinity(date(2027, 5, 26))
    food = market.world.items(START).category == 0  # at its best on day 330, worst half a year later
    assert np.allclose((winter - summer)[food], 0.3, atol=0.01)
    assert abs((winter - summer).mean()) < 0.1


def test_every_day_has_events_even_in_the_smallest_market() -> None:
    small = market_of(market_users=20, market_items=20)
    assert all(small.read(after(number)).tables["interactions"].num_rows for number in range(60))


def test_a_hundred_thousand_users_fit_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks or at once, the same events: so memory is bounded by CELLS, whatever the number of users."""
    whole = market_of().read(after(2))
    monkeypatch.setattr(visits, "CELLS", 5_000)  # five users at a time
    assert same(market_of().read(after(2)), whole)


def test_a_day_of_the_default_world_takes_well_under_a_second(market: Market) -> None:
    began = time.process_time()
    market.read(after(20))
    assert time.process_time() - began < 0.5  # measured 0.05


# --- the planted drift ---------------------------------------------------------------------------------


def test_before_the_drift_user_level_means_stand_still(behaviour: list[pd.DataFrame]) -> None:
    means = pd.DataFrame([day.mean() for day in behaviour[: (DRIFT - START).days]])
    variation = means.std() / means.mean()
    assert (variation.drop("purchase_share") < 0.04).all()  # chance alone: 700 users a day
    weekend = np.array([after(n).weekday() >= 5 for n in range(len(means))])
    gap = (means[weekend].mean() - means[~weekend].mean()) / means.mean()
    assert (gap.drop("purchase_share").abs() < 0.025).all()


def test_the_drift_shows_on_its_first_day_and_not_on_the_day_before(behaviour: list[pd.DataFrame]) -> None:
    on = (DRIFT - START).days
    before = pd.concat(behaviour[: on - 1])

    def moved(day: pd.DataFrame) -> pd.Series:
        distance = {name: wasserstein_distance(before[name], day[name]) / before[name].std() for name in day}
        return pd.Series(distance)

    assert (moved(behaviour[on - 1]) < 0.15).all()
    for day in (behaviour[on], behaviour[on + 5]):
        assert (moved(day).drop("purchase_share") > 0.3).all()


def test_the_drift_is_more_mobile_shorter_and_cheaper(behaviour: list[pd.DataFrame]) -> None:
    on = (DRIFT - START).days
    before, since = pd.concat(behaviour[:on]).mean(), pd.concat(behaviour[on:]).mean()
    assert since.mobile_share > before.mobile_share + 0.25
    assert since.session_minutes < 0.5 * before.session_minutes
    assert since.mean_price < 0.8 * before.mean_price
    assert since.interactions < 0.8 * before.interactions


def test_the_drift_moves_most_but_not_all_tastes(market: Market) -> None:
    rows = np.arange(2_000)
    categories = slice(0, 12)
    before = market.world.user_vectors(rows, DRIFT - timedelta(days=1))[:, categories]
    since = market.world.user_vectors(rows, DRIFT)[:, categories]
    moved = (before != since).any(axis=1).mean()
    assert 0.6 < moved < 0.8


# --- taste, and what a model can learn of it -----------------------------------------------------------


def test_most_meetings_are_new_and_a_third_are_with_items_met_before(days: list[DayBatch]) -> None:
    met = [
        set(zip(*d.tables["interactions"].select(["user_id", "item_id"]).to_pydict().values(), strict=True))
        for d in days
    ]
    earlier = set().union(*met[:WARM_UP])
    assert 0.2 < len(met[WARM_UP] & earlier) / len(met[WARM_UP]) < 0.45


def test_the_true_taste_is_at_least_twice_as_good_as_popularity_on_discovery(
    market: Market, days: list[DayBatch]
) -> None:
    day = after(WARM_UP)
    history = pa.concat_tables([d.tables["interactions"] for d in days[:WARM_UP]]).to_pandas()
    exam = days[WARM_UP].tables["interactions"].to_pandas()[["user_id", "item_id"]].drop_duplicates()
    known = [f"i{n:06d}" for n in range(len(market.world.items(day)))]
    users = sorted(exam.user_id.unique())
    popular = history.item_id.value_counts().reindex(known).fillna(0).to_numpy()
    met = history.groupby("user_id").item_id.agg(set)
    truth, baseline = [], []
    for user, scores in zip(users, market.truth(users, known, day), strict=True):
        seen = np.array([int(item[1:]) for item in met.get(user, ())], dtype=int)
        wanted = {int(i[1:]) for i in exam.item_id[exam.user_id == user]} - set(seen.tolist())
        if wanted:
            truth.append(ndcg_at_10(scores, seen, wanted))
            baseline.append(ndcg_at_10(popular, seen, wanted))
    assert len(truth) > 500
    assert np.mean(truth) > 2 * np.mean(baseline)
    assert np.mean(truth) > 0.08


def ndcg_at_10(scores: np.ndarray, seen: np.ndarray, wanted: set[int]) -> float:
    scores = scores.astype(float)
    scores[seen] = -np.inf
    gains = 1 / np.log2(np.arange(10) + 2)
    hits = np.isin(np.argsort(-scores)[:10], list(wanted))
    return float((gains * hits).sum() / gains[: min(10, len(wanted))].sum())


def test_people_meet_what_suits_their_taste_in_category_style_and_price(market: Market) -> None:
    day, people = after(14), np.arange(2_000)
    vectors, tastes = market.world.item_vectors(day), market.world.user_vectors(people, day)
    events = visits.events_of(market.world, day)
    met = events.user < len(people)
    for part, gain in ((slice(0, 12), 1.0), (slice(12, 16), 0.4), (slice(16, 17), 0.1)):
        liked = tastes[:, part] @ vectors[:, part].T
        assert liked[events.user[met], events.item[met]].mean() > liked.mean() + gain


def test_people_come_back_to_their_staples(market: Market) -> None:
    day = after(14)
    events = visits.events_of(market.world, day)
    tastes, vectors = market.world.user_vectors(events.user, day), market.world.item_vectors(day)
    kept = visits.staples(market.world, day, events.user, tastes, vectors)
    assert np.mean((kept == events.item[:, None]).any(axis=1)) > visits.STAPLE_SHARE


def test_popularity_falls_off_like_zipf(days: list[DayBatch]) -> None:
    events = pa.concat_tables([d.tables["interactions"] for d in days[:28]]).to_pandas()
    count = np.sort(events.item_id.value_counts().to_numpy())[::-1]
    assert count[: len(count) // 10].sum() > 0.25 * count.sum()
    assert count[0] < 0.03 * count.sum()  # no item is everybody's


def test_tastes_wander_slowly(market: Market) -> None:
    users = [f"u{n:06d}" for n in range(200)]

    def likeness(days_apart: int) -> float:
        one, other = (market.truth(users, market_ids(1_000), after(n)) for n in (0, days_apart))
        return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(one, other, strict=True)]))

    assert likeness(1) > 0.999
    assert likeness(1) > likeness(14) > likeness(29) > 0.9


def test_truth_is_what_was_asked_for_in_the_order_it_was_asked(market: Market) -> None:
    users, items = ["u000007", "u000003"], ["i000005", "i000001", "i000009"]
    affinity = market.truth(users, items, START)
    assert affinity.shape == (2, 3) and affinity.dtype == np.float64
    assert affinity[1, 2] == pytest.approx(market.truth(["u000003"], ["i000009"], START)[0, 0])


@pytest.mark.parametrize("stranger", ["u999999", "i000001", "", "u1", "사용자", "u00000１"])
def test_truth_names_whom_it_does_not_know(market: Market, stranger: str) -> None:
    with pytest.raises(SourceError, match="not in the market on 2026-09-01"):
        market.truth([stranger], ["i000001"], START)


def test_truth_does_not_know_what_is_not_yet_on_offer(market: Market) -> None:
    with pytest.raises(SourceError, match=r"'i001000' is not in the market on 2026-09-01"):
        market.truth(["u000001"], ["i001000"], START)
    assert market.truth(["u000001"], ["i001000"], after(1)).shape == (1, 1)


# --- customers who choose ------------------------------------------------------------------------------


def test_a_better_list_gets_more_clicks(market: Market) -> None:
    users = [f"u{n:06d}" for n in range(150)]
    affinity = market.truth(users, market_ids(1_000), START)
    best = np.argsort(-affinity, axis=1)[:, :10]
    popular = np.argsort(-np.exp(affinity).mean(axis=0))[:10]

    def clicks(shown: list[np.ndarray]) -> float:
        ids = market_ids(1_000)
        return float(
            np.mean(
                [
                    len(market.choose(u, [ids[i] for i in s], START, 10))
                    for u, s in zip(users, shown, strict=True)
                ]
            )
        )

    random = np.random.default_rng(0)
    anything = clicks([random.choice(1_000, 10, replace=False) for _ in users])
    assert clicks(list(best)) > 1.5 * clicks([popular] * len(users)) > 2 * anything > 0


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    user=st.integers(0, 1_999),
    shown=st.lists(st.integers(0, 999), max_size=20),
    day=st.integers(0, 40),
    k=st.integers(0, 12),
)
def test_a_choice_is_deterministic_among_what_is_shown_and_at_most_k(
    market: Market, user: int, shown: list[int], day: int, k: int
) -> None:
    ids = [f"i{n:06d}" for n in shown]
    chosen = market.choose(f"u{user:06d}", ids, after(day), k)
    assert chosen == market.choose(f"u{user:06d}", ids[::-1], after(day), k)
    assert len(chosen) <= k and set(chosen) <= set(ids) and len(set(chosen)) == len(chosen)
    every = market.choose(f"u{user:06d}", ids, after(day), 20)
    assert chosen == every[:k]


def test_the_same_list_is_answered_differently_on_another_day(market: Market) -> None:
    shown = market_ids(10)
    answers = [market.choose(f"u{n:06d}", shown, after(n % 20), 10) for n in range(40)]
    again = [market.choose(f"u{n:06d}", shown, after(n % 20 + 1), 10) for n in range(40)]
    assert sum(one != other for one, other in zip(answers, again, strict=True)) > 5


def test_items_of_elsewhere_are_never_clicked(market: Market) -> None:
    assert market.choose("u000001", ["book-1", "i999999", ""], START, 3) == []
    with pytest.raises(SourceError, match="user 'guest'"):
        market.choose("guest", ["i000001"], START)


def test_events_of_the_first_day_begin_on_it(days: list[DayBatch]) -> None:
    first = days[0].tables["interactions"]["at"].to_pandas().min()
    assert first.to_pydatetime() >= datetime(2026, 9, 1, tzinfo=UTC)
