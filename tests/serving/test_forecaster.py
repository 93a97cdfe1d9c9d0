"""The forecaster service as its clients meet it: a real process, a real registry, real features.

The tests share one service and run in order: the later ones publish further days.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from nightshift import partitions
from nightshift.contracts import INDICATORS
from nightshift.contracts.features import TOPIC_VIEW, window_column
from nightshift.contracts.indicators import INDICATOR_NAMES, last_complete_week, weeks_after
from nightshift.lake import Lake
from nightshift.seats import FORECASTER
from nightshift.settings import Settings
from nightshift.sources import DayBatch
from nightshift.velocity import score
from serving.champion import UNFIT
from serving.forecasting import BORROWED, FEATURES, OF_NOBODY, PLAYERS, UNLEARNT
from tests.conftest import TINY_START, publish_day, tiny_day
from tests.serving.conftest import Customers, Packer, Process, build_features, serving, wait_until

PREDICTOR = Path(__file__).with_name("tiny_forecaster.py")
NEWEST = last_complete_week(TINY_START)
LEARNT = ["배터리 재활용", "robotics", "quiet", "sparse"]
TYPICAL = {
    **{f"{name}_usual": (0.0, 20.0, 0.0, 0.0, 2.0)[n] for n, name in enumerate(INDICATOR_NAMES)},
    **{f"{name}_spread": (0.1, 5.0, 0.1, 0.1, 1.0)[n] for n, name in enumerate(INDICATOR_NAMES)},
}
WEIGHTS = dict(zip(INDICATOR_NAMES, (10.0, 0.5, 8.0, 5.0, -1.0), strict=True))
WINDOW: list[list[float | None]] = [[0.1, 25.0, 0.0, 0.1, 1.0]] * 4


def weeks(topic: str, last: str, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """A topic's `count` weeks up to `last`."""
    random = np.random.default_rng([seed, *topic.encode()])
    return [
        {
            "topic": topic,
            "week": weeks_after(last, -ago),
            "funding_volume_growth": float(random.normal(0, 0.1)),
            "patent_filing_rate": float(random.poisson(20)),
            "learning_demand_growth": float(random.normal(0, 0.1)),
            "search_volume_growth": float(random.normal(0, 0.1)),
            "policy_change_frequency": float(random.poisson(2)),
        }
        for ago in reversed(range(count))
    ]


def a_day(day: date, rows: list[dict[str, Any]]) -> DayBatch:
    batch = tiny_day(day, start=TINY_START)
    return DayBatch(day, {**batch.tables, "indicators": INDICATORS.table(rows)}, batch.counts)


def opening() -> list[dict[str, Any]]:
    """Two topics of which all is known, one young, one told of no more, one of which little is told lately."""
    sparse = weeks("sparse", NEWEST, 60)
    for row in sparse[-4:-1]:  # all figures of the newest week are there: a mean needs two weeks
        row |= dict.fromkeys(INDICATOR_NAMES[1:4])
    return [
        *weeks("배터리 재활용", NEWEST, 60),
        *weeks("robotics", NEWEST, 60),
        *weeks("young", NEWEST, 8),
        *weeks("quiet", weeks_after(NEWEST, -5), 60),
        *sparse,
    ]


class Forecasters(Packer):
    """One weight per indicator."""

    def submit(self, *, strength: float = 1.0, broken: bool = False, nonsense: str = "") -> int:
        config = {
            "features": FEATURES,
            "typical": TYPICAL,
            "topics": LEARNT,
            "weights": WEIGHTS,
            "strength": strength,
            "broken": broken,
            "nonsense": nonsense,
        }
        path = self.folder() / "config.json"
        path.write_text(json.dumps(config))
        return self.log(PREDICTOR, {"config": path}, {"mse": 30.0}, {"family": "tiny", "exam_mse": "31.5"})


class Service:
    def __init__(self, url: str, process: Process) -> None:
        self.url, self.process = url, process
        self.before: dict[str, httpx.Response] = {}

    def forecast(self, **body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/forecast", json=body, timeout=10)

    def trends(self, query: str = "") -> httpx.Response:
        return httpx.get(f"{self.url}/trends{query}", timeout=10)

    def model(self) -> dict[str, Any]:
        body: dict[str, Any] = httpx.get(f"{self.url}/model", timeout=10).json()
        return body

    def serves(self, number: int) -> bool:
        """Whether it forecasts and ranks by this version."""
        trends = self.trends()
        ranked = trends.is_success and trends.json()["model_version"] == str(number)
        return bool(ranked and self.model()["version"] == str(number))


@pytest.fixture(scope="module")
def packer(config: Settings, tracking: None, tmp_path_factory: pytest.TempPathFactory) -> Forecasters:
    return Forecasters(config, tmp_path_factory.mktemp("forecasters"), FORECASTER)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("forecaster_home")
    publish_day(Lake(home / "lake"), a_day(TINY_START, opening()))
    return home


@pytest.fixture(scope="module")
def service(config: Settings, packer: Forecasters) -> Iterator[Service]:
    """The service, started before there is a champion; then version 1 is seated; then features are built."""
    url, process = serving(config, FORECASTER)
    first = packer.submit()
    try:
        process.start()
        service = Service(url, process)
        service.before["empty seat"] = service.forecast(topic="robotics")
        service.before["empty seat, trends"] = service.trends()
        packer.promote(first)
        wait_until(
            lambda: service.model()["version"] == str(first), 15, lambda: process.log.read_text()[-3000:]
        )
        service.before["no features"] = service.forecast(topic="robotics")
        service.before["no features, window"] = service.forecast(window=WINDOW)
        service.before["no features, trends"] = service.trends()
        assert build_features(config, TINY_START).wait(120) == 0
        # The service looks for a store that was away every few seconds, and building may take fewer.
        wait_until(lambda: service.forecast(topic="robotics").status_code == 200, 30)
        wait_until(lambda: service.serves(first), 30, lambda: process.log.read_text()[-3000:])
        yield service
    finally:
        process.stop()


def newest(config: Settings) -> dict[str, dict[str, Any]]:
    """The rows that the feature files hold, by topic."""
    _, rows = partitions.newest(config, TOPIC_VIEW)
    return {row["topic"]: row for row in rows.to_dict("records")}


def expected(row: dict[str, Any]) -> float:
    """The change that tiny_forecaster.py says of a row of which all is known."""
    total = 1.0 + 0.1 * row["velocity_change_4w"]
    for name, weight in WEIGHTS.items():
        total += weight * (
            np.mean([row[window_column(name, ago)] for ago in range(4)]) - row[f"{name}_usual"]
        )
    return float(total)


# --- before there is anything ----------------------------------------------------------------------------


def test_without_a_champion_the_service_is_up_and_says_what_is_missing(service: Service) -> None:
    for answer in (service.before["empty seat"], service.before["empty seat, trends"]):
        assert answer.status_code == 503 and "no champion" in answer.json()["error"]


def test_without_features_a_topic_must_wait_and_a_window_need_not(service: Service) -> None:
    topic = service.before["no features"]
    assert topic.status_code == 503 and "feature store cannot be reached" in topic.json()["error"]
    assert service.before["no features, window"].status_code == 200
    trends = service.before["no features, trends"]
    assert trends.status_code == 503 and "not ranked yet" in trends.json()["error"]


# --- forecasts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["robotics", "배터리 재활용"])
def test_a_topic_is_forecast_from_its_newest_features(service: Service, config: Settings, topic: str) -> None:
    row = newest(config)[topic]
    answer = service.forecast(topic=topic).json()
    assert (answer["topic"], answer["week"], answer["note"]) == (topic, NEWEST, None)
    assert answer["velocity"] == pytest.approx(row["velocity"]) and answer["coverage"] == 1.0
    assert answer["change"] == pytest.approx(expected(row))
    assert answer["forecast"] == pytest.approx(np.clip(answer["velocity"] + answer["change"], 0, 100))
    change = answer["change"]
    assert answer["interval_80"] == {"low": pytest.approx(change - 2), "high": pytest.approx(change + 3)}
    assert answer["interval_95"] == {"low": pytest.approx(change - 4), "high": pytest.approx(change + 5)}
    assert (answer["model_version"], answer["family"]) == ("1", "tiny")
    assert pd.Timestamp(answer["features_at"]) == row["event_timestamp"]


def test_the_drivers_are_all_there_strongest_first_and_add_up(service: Service, config: Settings) -> None:
    row = newest(config)["robotics"]
    answer = service.forecast(topic="robotics").json()
    effects = {driver["indicator"]: driver["effect"] for driver in answer["drivers"]}
    assert list(effects) == sorted(effects, key=lambda name: -abs(effects[name])) and len(effects) == 6
    assert set(effects) == set(PLAYERS)
    assert answer["base"] + sum(effects.values()) == pytest.approx(answer["change"])
    name = (
        "funding_volume_growth"  # a linear model's effect is a term of its sum, where the usual is the same
    )
    mean = np.mean([row[window_column(name, ago)] for ago in range(4)])
    least, most = sorted(WEIGHTS[name] * (mean - usual) for usual in (row[f"{name}_usual"], 0.0))
    assert least - 1e-6 <= effects[name] <= most + 1e-6


def test_a_window_of_nobody_is_forecast_and_null_drives_nothing(service: Service) -> None:
    answer = service.forecast(window=WINDOW).json()
    usual, spread = ([TYPICAL[f"{n}_{part}"] for n in INDICATOR_NAMES] for part in ("usual", "spread"))
    velocity, _ = score(np.array(WINDOW, float), np.array(usual), np.array(spread))
    assert answer["velocity"] == pytest.approx(float(velocity))
    assert answer["change"] == pytest.approx(1 + 10 * 0.1 + 0.5 * 5 + 5 * 0.1 + 1 * 1)
    assert (answer["topic"], answer["week"], answer["features_at"], answer["note"]) == (
        None,
        None,
        None,
        OF_NOBODY,
    )
    assert answer["base"] == pytest.approx(1.0)
    holes = [[None, 25, 0, 0.1, None]] * 4
    answer = service.forecast(window=holes, topic=None).json()
    effects = {driver["indicator"]: driver["effect"] for driver in answer["drivers"]}
    assert answer["coverage"] == 0.65
    assert effects["funding_volume_growth"] == effects["policy_change_frequency"] == effects["history"] == 0
    assert effects["patent_filing_rate"] == pytest.approx(2.5)


def test_a_young_topic_is_forecast_by_a_typical_ones_pace_and_told_so(service: Service) -> None:
    answer = service.forecast(topic="young").json()
    assert answer["note"] == f"{BORROWED}; {UNLEARNT}" and 0 <= answer["velocity"] <= 100


def test_a_topic_that_nobody_told_of_is_a_404(service: Service) -> None:
    for unknown in ("nobody ever", "로봇 🤖", "x" * 128, "robotics ", "'; DROP TABLE topics; --"):
        answer = service.forecast(topic=unknown)
        assert answer.status_code == 404 and "no such topic" in answer.json()["error"]
        assert answer.json()["detail"][0]["loc"] == ["topic"]


def test_a_topic_told_of_no_more_and_one_of_which_too_little_is_known_are_503(service: Service) -> None:
    quiet = service.forecast(topic="quiet")
    assert quiet.status_code == 503 and "days old (at most 28)" in quiet.json()["error"]
    sparse = service.forecast(topic="sparse")
    assert sparse.status_code == 503 and "35% is known" in sparse.json()["error"]


# --- bad input -------------------------------------------------------------------------------------------


def window(week: int, place: int, value: Any) -> dict[str, Any]:
    changed = [list(row) for row in WINDOW]
    changed[week][place] = value
    return {"window": changed}


def raw(value: str) -> bytes:
    return json.dumps(window(1, 2, "HERE")).replace('"HERE"', value).encode()


BAD = {
    "no body": (b"", 400, "topic"),
    "an empty object": ({}, 400, "topic"),
    "both null": ({"topic": None, "window": None}, 400, "topic"),
    "both": ({"topic": "robotics", "window": WINDOW}, 400, "topic"),
    "empty topic": ({"topic": ""}, 400, "topic"),
    "long topic": ({"topic": "t" * 129}, 400, "topic"),
    "topic is a number": ({"topic": 5}, 400, "topic"),
    "topic is a list": ({"topic": ["robotics"]}, 400, "topic"),
    "NUL": ({"topic": "a\x00b"}, 400, "topic"),
    "lone surrogate": (b'{"topic": "\\ud800 alone"}', 400, "hex escape"),
    "not UTF-8": (b'{"topic": "\xff\xfe"}', 400, "JSON"),
    "not JSON": (b"{topic: robotics", 400, "JSON"),
    "a list": ([WINDOW], 400, "object"),
    "deep": (b'{"window": ' + b"[" * 100_000, 400, "JSON"),
    "unknown field": ({"topic": "robotics", "weeks": 4}, 400, "weeks"),
    "window is text": ({"window": "1,2,3"}, 400, "window"),
    "window is an object": ({"window": {"0": [0] * 5}}, 400, "window"),
    "no weeks": ({"window": []}, 400, "window"),
    "three weeks": ({"window": WINDOW[:3]}, 400, "window"),
    "five weeks": ({"window": [*WINDOW, WINDOW[0]]}, 400, "window"),
    "a flat window": ({"window": [0.0] * 20}, 400, "window"),
    "four indicators": ({"window": [[0.0] * 4] * 4}, 400, "window"),
    "six indicators": ({"window": [[0.0] * 6] * 4}, 400, "window"),
    "one short week": ({"window": [*WINDOW[:3], [0.0] * 4]}, 400, "window"),
    "a null week": ({"window": [*WINDOW[:3], None]}, 400, "window"),
    "text": (window(0, 0, "0.1"), 400, "window"),
    "true": (window(0, 0, True), 400, "window"),
    "a nested list": (window(0, 0, [0.1]), 400, "window"),
    "NaN": (raw("NaN"), 400, "finite"),
    "Infinity": (raw("Infinity"), 400, "finite"),
    "-Infinity": (raw("-Infinity"), 400, "finite"),
    "1e999": (raw("1e999"), 400, "finite"),
    "a very long number": (raw("9" * 400), 400, "window"),
    "growth out of range": (window(0, 0, 10.5), 400, "funding_volume_growth"),
    "a fall out of range": (window(3, 3, -11), 400, "search_volume_growth"),
    "negative patents": (window(2, 1, -1), 400, "patent_filing_rate"),
    "negative policy": (window(2, 4, -0.5), 400, "policy_change_frequency"),
    "more patents than there are": (window(2, 1, 1e12), 400, "patent_filing_rate"),
    "nothing but null": ({"window": [[None] * 5] * 4}, 400, "of the velocity's weight 0%"),
    "too little": ({"window": [[0.1, None, 0.1, None, None]] * 4}, 400, "45%"),
    "one week of each": ({"window": [*[[None] * 5] * 3, [0.1] * 5]}, 400, "0%"),
    "a large body": ({"topic": "t" * 2_000_000}, 413, "larger"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_and_names_the_field(service: Service, case: str) -> None:
    body, status, named = BAD[case]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{service.url}/forecast", content=content, headers=headers, timeout=10)
    told = answer.json()
    assert answer.status_code == status and set(told) == {"error", "detail"}
    places = [str(part) for entry in told["detail"] for part in entry["loc"]]
    assert named in places or named in json.dumps(told), told


def test_a_bad_value_is_named_by_its_week_and_indicator(service: Service) -> None:
    (detail,) = service.forecast(**window(2, 1, -1)).json()["detail"]
    assert detail["loc"] == ["window", 2, 1]
    assert "patent_filing_rate must be from 0" in detail["msg"]


@pytest.mark.parametrize("extreme", [[10.0, 1e9, 10.0, 10.0, 0.0], [-10.0, 0.0, -10.0, -10.0, 1e9]])
def test_the_ends_of_what_is_allowed_are_forecast(service: Service, extreme: list[float]) -> None:
    answer = service.forecast(window=[extreme] * 4)
    assert answer.status_code == 200
    told = answer.json()
    assert not 2 < told["velocity"] < 98 and told["forecast"] in (0.0, 100.0)


@pytest.mark.parametrize(
    "query",
    ["k=0", "k=-1", "k=1001", "k=ten", "k=1.5", "k=", "k=NaN", f"k={'9' * 5000}", "top=3", "k=3&of=5"],
)
def test_a_bad_query_of_the_trends_is_refused_as_a_bad_body_is(service: Service, query: str) -> None:
    answer = service.trends(f"?{query}")
    assert answer.status_code == 400 and set(answer.json()) == {"error", "detail"}
    (detail,) = answer.json()["detail"]
    assert set(detail) == {"type", "loc", "msg"} and detail["loc"][-1] in query
    assert "validation error for /trends" in answer.json()["error"]


def test_the_edge_is_the_recommenders(service: Service) -> None:
    sent = {"content-type": "application/json"}
    url, body = f"{service.url}/forecast", json.dumps({"topic": "robotics"}).encode()
    assert httpx.post(url, data={"topic": "robotics"}).status_code == 415
    assert httpx.post(url, content=body, headers={**sent, "origin": "http://evil.example"}).status_code == 403
    assert httpx.post(url, content=body, headers={**sent, "origin": service.url}).status_code == 200
    stranger = {"host": "rebound.example:3001"}
    for path in ("/", "/model", "/trends", "/docs.json"):
        assert httpx.get(service.url + path, headers=stranger).status_code == 403
    for path in ("/livez", "/readyz", "/metrics"):
        assert httpx.get(service.url + path, headers=stranger).status_code == 200
    assert httpx.get(f"{service.url}/trends", headers={"host": "shop.example"}).status_code == 200


def test_bad_requests_leave_no_traceback_in_the_log(service: Service) -> None:
    service.forecast(window=[])
    service.trends("?k=0")
    assert "Traceback" not in service.process.log.read_text()


# --- trends and pages ------------------------------------------------------------------------------------


def test_the_trends_rank_what_can_be_forecast_as_forecast(service: Service) -> None:
    told = service.trends("?k=1000").json()
    assert (told["topics"], told["left_out"], told["model_version"]) == (2, 3, "1")
    assert [trend["rank"] for trend in told["trends"]] == [1, 2]
    heights = [trend["forecast"] for trend in told["trends"]]
    assert heights == sorted(heights, reverse=True)
    for trend in told["trends"]:
        alone = service.forecast(topic=trend["topic"]).json()
        for field in ("week", "velocity", "change", "forecast", "base"):
            assert trend[field] == pytest.approx(alone[field]) if field != "week" else alone["week"]
        assert [d["indicator"] for d in trend["drivers"]] == [d["indicator"] for d in alone["drivers"]]
    assert service.trends("?k=1").json()["trends"] == told["trends"][:1]
    assert service.trends().json() == told


def test_the_model_page_has_the_version_and_its_real_exam_figures(service: Service) -> None:
    model = service.model()
    assert (model["seat"], model["version"], model["family"]) == ("forecaster", "1", "tiny")
    assert model["exam"] == {"mse": 31.5} and model["training"] == {"mse": 30.0}
    assert model["topics"] == len(LEARNT) and model["topic_features"] == FEATURES
    assert datetime.fromisoformat(model["since"]) <= datetime.now(UTC)


def test_the_pages_and_metrics_are_there_and_call_no_third_party(service: Service) -> None:
    with httpx.Client(base_url=service.url, follow_redirects=True) as client:
        assert "swagger" in client.get("/docs").text
        assert "'self'" in client.get("/").headers["content-security-policy"]
        documented = client.get("/docs.json").json()["paths"]
        assert {"/forecast", "/trends", "/model"} <= set(documented)
        metrics = client.get("/metrics").text
    assert 'nightshift_forecasts_total{model_version="1"}' in metrics
    assert 'nightshift_trends_total{model_version="1"}' in metrics
    assert 'nightshift_forecasts_refused_total{status="404"}' in metrics
    assert "nightshift_model_swaps_total 1.0" in metrics


# --- swaps -----------------------------------------------------------------------------------------------


def test_promotions_are_swapped_in_without_a_dropped_request(service: Service, packer: Forecasters) -> None:
    versions = [packer.submit(strength=strength) for strength in (2.0, 3.0, 4.0)]
    topics = Customers(service.url, "/forecast", {"topic": "robotics"}, threads=2)
    windows = Customers(service.url, "/forecast", {"window": WINDOW}, threads=1)
    trends = Customers(service.url, "/trends?k=2", threads=1)
    packer.promote(versions[0])  # alone, this test begins with an empty seat
    wait_until(lambda: service.serves(versions[0]) and service.trends().status_code == 200, 30)
    with topics, windows, trends:
        for version in versions[1:]:
            packer.promote(version)
            wait_until(lambda version=version: service.serves(version), 15)  # type: ignore[misc]
    for customers in (topics, windows, trends):
        for mine in customers.answers:
            assert len(mine) > 30 and {status for _, status, _ in mine} == {200}
            seen = [version for _, _, version in mine if version is not None]
            assert seen == sorted(seen) and set(versions[:-1]) <= set(seen)
    assert service.forecast(window=WINDOW).json()["base"] == pytest.approx(4.0)


@pytest.mark.parametrize("harm", [{"broken": True}, {"nonsense": "nan"}, {"nonsense": "interval"}])
def test_a_version_that_cannot_serve_never_takes_the_seat(
    service: Service, packer: Forecasters, harm: dict[str, Any]
) -> None:
    good, broken = int(service.model()["version"]), packer.submit(**harm)
    packer.promote(broken)
    wait_until(lambda: (service.model()["refused"] or {}).get("version") == str(broken), 10)
    assert service.model()["refused"]["error"] == UNFIT and service.serves(good)
    assert service.forecast(topic="robotics").json()["model_version"] == str(good)
    packer.promote(good)
    wait_until(lambda: service.model()["refused"] is None, 10)


# --- days go by ------------------------------------------------------------------------------------------


def test_what_a_further_day_tells_is_served_without_a_restart(service: Service, config: Settings) -> None:
    day, following = TINY_START + timedelta(days=8), weeks_after(NEWEST, 1)
    told = [*weeks("robotics", following, 1, seed=1), *weeks("a new one", following, 60)]
    publish_day(Lake(config.lake_dir), a_day(day, told))
    with Customers(service.url, "/forecast", {"topic": "배터리 재활용"}, threads=1) as customers:
        assert build_features(config, day).wait(120) == 0
        wait_until(lambda: service.trends().json()["topics"] == 3, 15)
    assert {status for _, status, _ in customers.answers[0]} == {200}
    trends = {trend["topic"]: trend for trend in service.trends().json()["trends"]}
    assert set(trends) == {"robotics", "배터리 재활용", "a new one"}
    assert trends["robotics"]["week"] == following and trends["배터리 재활용"]["week"] == NEWEST
    answer = service.forecast(topic="robotics").json()
    assert answer["week"] == following
    assert answer["velocity"] == pytest.approx(newest(config)["robotics"]["velocity"])
    assert service.forecast(topic="a new one").json()["note"] == UNLEARNT


def test_topics_grow_too_old_by_the_data_clock(service: Service, config: Settings) -> None:
    publish_day(Lake(config.lake_dir), tiny_day(TINY_START + timedelta(days=60), start=TINY_START))
    stale = service.forecast(topic="robotics")
    assert stale.status_code == 503 and "days old (at most 28)" in stale.json()["error"]
    wait_until(lambda: service.trends().json()["topics"] == 0, 15)
    told = service.trends().json()
    assert told["trends"] == [] and "too old or too few" in told["note"]
    assert service.forecast(window=WINDOW).status_code == 200
