"""The recommender service as its clients meet it: a real process, a real registry, real features.

The tests share one service and run in order: the last ones stop MLflow and kill the service's worker.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from monitoring import outcomes
from nightshift.eventlog import Answer, EventLog
from nightshift.lake import Lake
from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from nightshift.sources.market import Market
from nightshift.visits import visit
from serving import exposures
from serving.champion import AWAY, UNFIT
from tests.conftest import TINY_START, publish_day, tiny_day
from tests.serving.conftest import ITEMS, Customers, Process, Recommenders, Service, item_id, wait_until

TODAY = TINY_START + timedelta(days=1)  # by the data clock, until a later day is published


def an_event(event_id: str, **other: Any) -> dict[str, Any]:
    return {"event_id": event_id, "user_id": "u001", "item_id": "i001", "kind": "click", **other}


def stored(config: Settings) -> dict[str, dict[str, Any]]:
    """Every event in the log by its id."""
    log = EventLog(config.eventlog_uri)
    rows = log.of_night(TODAY) + log.claim(TODAY + timedelta(days=30))
    log.close()
    return {row["event_id"]: row for row in rows}


# --- before there is a champion --------------------------------------------------------------------------


def test_without_a_champion_the_service_is_up_and_says_what_is_missing(service: Service) -> None:
    before = service.before_champion
    assert before["livez"].status_code == before["readyz"].status_code == 200
    assert before["recommend"].status_code == 503
    assert "no champion" in before["recommend"].json()["error"]
    assert before["model"].status_code == 200 and before["model"].json()["version"] is None


# --- recommendations -------------------------------------------------------------------------------------


def test_a_known_user_gets_k_new_items_best_first(service: Service) -> None:
    answer = service.recommend(k=10).json()
    items = answer["items"]
    assert answer["known_user"] and answer["user_id"] == "u001"
    assert [item["rank"] for item in items] == list(range(1, 11))
    scores = [item["score"] for item in items]
    assert scores == sorted(scores, reverse=True) and all(math.isfinite(score) for score in scores)
    shown = [item["item_id"] for item in items]
    assert len(set(shown)) == 10 and not {item_id(0), item_id(1), item_id(2)} & set(shown)  # met before
    assert items[0]["title"] == f"상품 {int(shown[0][1:])}" and items[0]["reason"].startswith("because of")
    assert service.recommend().json()["request_id"] != answer["request_id"]


def test_excluded_items_never_come_back_and_too_few_left_is_said(service: Service) -> None:
    everything = [item_id(n) for n in range(ITEMS)]
    answer = service.recommend(k=10, exclude_items=[*everything[5:], "never heard of"]).json()
    assert {item["item_id"] for item in answer["items"]} == {item_id(3), item_id(4)}
    assert "only 2 items" in answer["note"]


def test_a_cap_on_categories_and_how_sure_the_model_is_stand_in_the_answer(service: Service) -> None:
    answer = service.recommend(k=10, max_per_category=3, device="mobile", channel="home").json()
    kinds = [item["category"] for item in answer["items"]]
    assert sorted(kinds) == ["book"] * 3 + ["food"] * 3 and "at most 3 of one category" in answer["note"]
    assert {item["confidence"] for item in answer["items"]} == {None}  # tiny models are not calibrated
    assert answer["recent_items_used"] == 0
    model = service.model()
    assert model["context"] == [] and model["calibrated"] is False


def test_an_unknown_user_gets_popular_items_and_is_told(service: Service) -> None:
    answer = service.recommend(user_id="처음 온 손님 🙂", k=3).json()
    assert not answer["known_user"] and "popular" in answer["note"]
    assert [item["item_id"] for item in answer["items"]] == [item_id(n) for n in range(3)]


def test_fresh_features_are_used_and_dated(service: Service) -> None:
    def answer() -> dict[str, Any]:
        body: dict[str, Any] = service.recommend(k=1).json()
        return body

    wait_until(
        lambda: answer()["features_at"] is not None, 10
    )  # the store was built after the service started
    with_features = answer()
    assert datetime.fromisoformat(with_features["features_at"]) == datetime(2026, 9, 2, tzinfo=UTC)
    assert with_features["note"] is None
    assert with_features["items"][0]["score"] > 1.5  # tiny models add interactions_28d to every score
    assert "no features" in service.recommend(user_id="nobody").json()["note"]


def test_the_model_page_has_the_version_and_its_real_exam_figures(service: Service) -> None:
    model = service.model()
    assert model["version"] == "1" and model["family"] == "tiny" and model["verdict"] == "promote"
    assert model["exam"] == {"ndcg_at_10": 0.31, "users": 17.0}
    assert model["training"] == {"ndcg_at_10": 0.25}
    assert datetime.fromisoformat(model["since"]) <= datetime.now(UTC)


def test_the_pages_and_metrics_are_there_and_call_no_third_party(service: Service) -> None:
    with httpx.Client(base_url=service.url, follow_redirects=True) as client:
        assert "swagger" in client.get("/docs").text
        assert "'self'" in client.get("/").headers["content-security-policy"]
        assert {"/recommend", "/feedback", "/model"} <= set(client.get("/docs.json").json()["paths"])
        service.recommend(user_id="nobody")
        service.feedback(an_event("for the metrics"))
        metrics = client.get("/metrics").text
    assert 'nightshift_recommendations_total{model_version="1"}' in metrics
    assert "nightshift_unknown_users_total" in metrics and "nightshift_model_swaps_total 1.0" in metrics
    assert 'nightshift_feedback_events_total{outcome="accepted"}' in metrics


# --- bad input -------------------------------------------------------------------------------------------

RECOMMEND, FEEDBACK = "/recommend", "/feedback"


def one(**event: Any) -> dict[str, Any]:
    return {"events": [an_event("bad", **event)]}


BAD = {
    "no body": (RECOMMEND, b"", 400, "user_id"),
    "no user": (RECOMMEND, {"k": 3}, 400, "user_id"),
    "empty user": (RECOMMEND, {"user_id": ""}, 400, "user_id"),
    "long user": (RECOMMEND, {"user_id": "u" * 129}, 400, "user_id"),
    "user is a number": (RECOMMEND, {"user_id": 5}, 400, "user_id"),
    "NUL": (RECOMMEND, {"user_id": "a\x00b"}, 400, "user_id"),
    "lone surrogate": (RECOMMEND, b'{"user_id": "\\ud800 alone"}', 400, "hex escape"),
    "not UTF-8": (RECOMMEND, b'{"user_id": "\xff\xfe"}', 400, "JSON"),
    "not JSON": (RECOMMEND, b"{user_id: u1", 400, "JSON"),
    "NaN": (RECOMMEND, b'{"user_id": "u", "k": NaN}', 400, "k"),
    "a list": (RECOMMEND, [1, 2], 400, "object"),
    "deep": (RECOMMEND, b'{"user_id": ' + b"[" * 100_000, 400, "JSON"),
    "unknown field": (RECOMMEND, {"user_id": "u", "top_k": 3}, 400, "top_k"),
    "k is 0": (RECOMMEND, {"user_id": "u", "k": 0}, 400, "k"),
    "k is 101": (RECOMMEND, {"user_id": "u", "k": 101}, 400, "k"),
    "k is text": (RECOMMEND, {"user_id": "u", "k": "10"}, 400, "k"),
    "k is true": (RECOMMEND, {"user_id": "u", "k": True}, 400, "k"),
    "k is huge": (RECOMMEND, b'{"user_id": "u", "k": ' + b"9" * 5000 + b"}", 400, "number"),
    "exclude is text": (RECOMMEND, {"user_id": "u", "exclude_items": "i1"}, 400, "exclude_items"),
    "101 recent items": (RECOMMEND, {"user_id": "u", "recent_items": ["i"] * 101}, 400, "recent_items"),
    "an empty recent item": (RECOMMEND, {"user_id": "u", "recent_items": ["i1", ""]}, 400, "recent_items"),
    "recent is text": (RECOMMEND, {"user_id": "u", "recent_items": "i1"}, 400, "recent_items"),
    "recent are numbers": (RECOMMEND, {"user_id": "u", "recent_items": [1, 2]}, 400, "recent_items"),
    "an unknown device": (RECOMMEND, {"user_id": "u", "device": "fridge"}, 400, "device"),
    "device is a number": (RECOMMEND, {"user_id": "u", "device": 1}, 400, "device"),
    "an unknown channel": (RECOMMEND, {"user_id": "u", "channel": "radio"}, 400, "channel"),
    "a cap of 0": (RECOMMEND, {"user_id": "u", "max_per_category": 0}, 400, "max_per_category"),
    "a cap of 101": (RECOMMEND, {"user_id": "u", "max_per_category": 101}, 400, "max_per_category"),
    "a cap of text": (RECOMMEND, {"user_id": "u", "max_per_category": "2"}, 400, "max_per_category"),
    "many excluded": (RECOMMEND, {"user_id": "u", "exclude_items": ["i"] * 1001}, 400, "exclude_items"),
    "a million excluded": (RECOMMEND, {"user_id": "u", "exclude_items": ["i"] * 10**6}, 413, "larger"),
    "no events": (FEEDBACK, {"events": []}, 400, "events"),
    "1,001 events": (FEEDBACK, {"events": [an_event(str(n)) for n in range(1001)]}, 400, "events"),
    "kind": (FEEDBACK, one(kind="stare"), 400, "kind"),
    "time without zone": (FEEDBACK, one(at="2026-09-02T10:00:00"), 400, "at"),
    "time as number": (FEEDBACK, one(at=1788000000), 400, "at"),
    "time ahead": (FEEDBACK, one(at="2026-09-03T10:00:00+00:00"), 400, "at"),
    "time long ago": (FEEDBACK, one(at="1970-01-01T00:00:00Z"), 400, "at"),
    "time before time": (FEEDBACK, one(at="0001-01-01T00:00:00+23:59"), 400, "at"),
    "rating without stars": (FEEDBACK, one(kind="rating"), 400, "value"),
    "six stars": (FEEDBACK, one(kind="rating", value=6), 400, "value"),
    "click with a value": (FEEDBACK, one(value=3), 400, "value"),
    "negative price": (FEEDBACK, one(kind="purchase", value=-1), 400, "value"),
    "infinite price": (FEEDBACK, b'{"events": [{"value": 1e999}]}', 400, "value"),
    "NUL in an item": (FEEDBACK, one(item_id="i\x00"), 400, "item_id"),
    "device": (FEEDBACK, one(device="fridge"), 400, "device"),
    "night": (FEEDBACK, one(night="2026-09-01"), 400, "night"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_and_names_the_field(service: Service, case: str) -> None:
    path, body, status, named = BAD[case]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    answer = httpx.post(service.url + path, content=content, headers=headers, timeout=10)
    assert answer.status_code == status
    told = answer.json()
    places = [str(part) for entry in told["detail"] for part in entry["loc"]]
    assert named in places or named in json.dumps(told), told


def test_one_bad_event_among_good_ones_stores_none(service: Service, config: Settings) -> None:
    answer = service.feedback(an_event("good neighbour"), an_event("bad", kind="rating"))
    assert answer.status_code == 400 and answer.json()["detail"][0]["loc"] == ["events", 1, "value"]
    assert "good neighbour" not in stored(config)


def test_a_body_that_is_not_json_or_comes_without_length_is_bounded_too(service: Service) -> None:
    assert httpx.post(f"{service.url}/recommend", data={"user_id": "u"}).status_code == 415
    pickle = {"content-type": "application/vnd.bentoml+pickle"}
    assert httpx.post(f"{service.url}/recommend", content=b"x", headers=pickle).status_code == 415
    chunks = (b" " * 100_000 for _ in range(30))
    json_header = {"content-type": "application/json"}
    assert httpx.post(f"{service.url}/recommend", content=chunks, headers=json_header).status_code == 413
    assert service.recommend().status_code == 200


def test_a_post_of_another_sites_page_never_gets_in(service: Service, config: Settings) -> None:
    body = json.dumps({"events": [an_event("forged")]}).encode()
    sent = {"content-type": "application/json"}
    for path, content in (("/feedback", body), ("/recommend", b'{"user_id": "u001"}')):
        url = service.url + path
        bare = httpx.post(url, content=content, headers={"origin": service.url})
        assert bare.status_code == 415 and "content-type" in bare.json()["error"]
        for origin in ("http://evil.example", "null"):
            told = httpx.post(url, content=content, headers={**sent, "origin": origin})
            assert told.status_code == 403
            assert told.json() == {"error": "cross-site request refused", "detail": []}
    preflight = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    answer = httpx.options(f"{service.url}/feedback", headers=preflight)
    assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
    assert "forged" not in stored(config)
    own_page = {**sent, "origin": service.url}
    assert httpx.post(f"{service.url}/recommend", content=content, headers=own_page).status_code == 200


def test_a_name_that_is_not_the_services_is_answered_to_machines_only(service: Service) -> None:
    stranger = {"host": "rebound.example:3000"}
    for path in ("/", "/model", "/docs.json"):
        refused = httpx.get(service.url + path, headers=stranger)
        assert refused.status_code == 403 and "rebound.example" in refused.json()["error"]
    for path in ("/livez", "/readyz", "/metrics"):
        assert httpx.get(service.url + path, headers=stranger).status_code == 200
    named = httpx.get(f"{service.url}/model", headers={"host": "shop.example"})
    assert named.status_code == 200  # NIGHTSHIFT_SERVING_HOSTS names it


def test_bad_requests_leave_no_traceback_in_the_log(service: Service) -> None:
    service.recommend(k=0)
    assert "Traceback" not in service.process.log.read_text()


# --- feedback --------------------------------------------------------------------------------------------


def test_feedback_is_stored_once_with_the_time_of_the_data_clock(service: Service, config: Settings) -> None:
    asked = service.recommend().json()["request_id"]
    event = an_event("f1", kind="rating", value=4, request_id=asked, device="mobile")
    assert service.feedback(event, an_event("f2")).json() == {"accepted": 2, "duplicates": 0}
    again = service.feedback({**event, "item_id": "i009"}, an_event("f3", at="2026-09-01T09:00:00+09:00"))
    assert again.json() == {"accepted": 1, "duplicates": 1}
    rows = stored(config)
    assert rows["f1"]["item_id"] == "i001" and rows["f1"]["value"] == 4.0
    assert rows["f1"]["at"].date() == TODAY
    assert rows["f3"]["at"] == datetime(2026, 9, 1, tzinfo=UTC)


def test_an_event_log_that_cannot_be_written_is_a_503_and_the_retry_succeeds(
    service: Service, config: Settings
) -> None:
    other = sqlite3.connect(config.home / "eventlog.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = service.feedback(an_event("patient"))
    other.execute("ROLLBACK")
    assert refused.status_code == 503 and "again" in refused.json()["error"]
    assert service.feedback(an_event("patient")).json()["accepted"] == 1


def test_simulated_customers_click_and_coming_again_are_shown_nothing_that_they_clicked_before(
    service: Service, config: Settings, tmp_path: Path
) -> None:
    size = {"market_users": 40, "market_items": ITEMS}
    port = httpx.URL(service.url).port
    market = Settings(_env_file=None, home=tmp_path, serving_port=port, **size)  # type: ignore[call-arg, arg-type]
    publish_day(Lake(market.lake_dir), Market(market).read(TINY_START))
    first, second = visit(market, customers=30), visit(market, customers=30)
    assert first["customers"] == 30 and first["shown"] == 300
    assert 0 < first["clicked"] < 90 and first["accepted"] == first["clicked"] + first["purchased"]
    assert second["accepted"] == second["clicked"] + second["purchased"] and second["duplicates"] == 0
    mine = [row for key, row in stored(config).items() if key.startswith("v20260902-")]
    assert len(mine) == first["accepted"] + second["accepted"] and {row["at"].date() for row in mine} == {
        TODAY
    }


# --- exposures -------------------------------------------------------------------------------------------


def test_what_was_answered_meets_what_the_user_did_with_it(service: Service, config: Settings) -> None:
    asked = service.recommend(user_id="u003", k=5).json()
    service.feedback(an_event("engaged", user_id="u003", request_id=asked["request_id"]))
    log = EventLog(config.eventlog_uri)
    version, ever = int(asked["model_version"]), datetime(2000, 1, 1, tzinfo=UTC)

    def taken_down() -> list[Answer]:
        answers = log.answers(version, 10_000, ["click"], timedelta(hours=1), since=ever)
        return [answer for answer in answers if answer.user_id == "u003"]

    wait_until(lambda: bool(taken_down()), 10)
    (answer,) = taken_down()
    assert answer.engaged and answer.at.date() == TODAY
    assert abs(answer.answered_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert 'nightshift_exposures_total{outcome="kept"}' in httpx.get(f"{service.url}/metrics").text
    log.close()


# --- swaps -----------------------------------------------------------------------------------------------


RECOMMENDATION = ("/recommend", {"user_id": "u002", "k": 5})


def test_promotions_are_swapped_in_without_a_dropped_request(service: Service, packer: Recommenders) -> None:
    versions = [packer.submit(seed=n) for n in (2, 3, 4)]
    promoted = {}
    with Customers(service.url, *RECOMMENDATION) as customers:
        for version in versions:
            packer.promote(version)
            promoted[version] = time.monotonic()
            wait_until(lambda version=version: service.serves(version), 10)  # type: ignore[misc]
            time.sleep(0.3)
    everything = [answer for mine in customers.answers for answer in mine]
    assert len(everything) > 300
    assert {status for _, status, _ in everything} == {200}
    for mine in customers.answers:
        seen = [version for _, _, version in mine if version is not None]
        assert seen == sorted(seen) and set(versions) <= set(seen)
    for version in versions:
        first = min(at for at, _, answered in everything if answered == version)
        assert first - promoted[version] < 4


def test_a_champion_whose_answers_nobody_follows_loses_the_seat_again_within_seconds(
    service: Service, packer: Recommenders, config: Settings
) -> None:
    former, worse = int(service.model()["version"]), packer.submit(seed=5)

    def visited(version: int, following: int) -> None:
        """250 users ask; `following` of them click on what they are shown, and tell."""
        wait_until(lambda: service.serves(version), 10)
        asked = [service.recommend(user_id=f"v{n}", k=3).json() for n in range(250)]
        assert {answer["model_version"] for answer in asked} == {str(version)}
        service.feedback(
            *(
                an_event(f"v{version}-{n}", user_id=answer["user_id"], request_id=answer["request_id"])
                for n, answer in enumerate(asked[:following])
            )
        )

    visited(former, 150)
    time.sleep(1)  # moves are dated by the second
    packer.promote(worse)
    visited(worse, 50)
    time.sleep(2 * exposures.EVERY_SECONDS)
    done = outcomes.outcomes(config, [RECOMMENDER], now=datetime.now(UTC) + timedelta(hours=1))
    assert done["rolled_back"] == ["recommender"]
    wait_until(lambda: service.serves(former), 5)
    last = packer.registry.history(RECOMMENDER)[-1]
    assert (last["by"], last["from"], last["to"]) == ("the watch", worse, former)
    assert "20.0% of the answers, 60.0% before" in last["reason"]


def test_a_version_that_cannot_serve_never_takes_the_seat(service: Service, packer: Recommenders) -> None:
    good = int(service.model()["version"])
    for broken in (packer.submit(broken=True), packer.submit(nonsense=True)):
        packer.promote(broken)
        wait_until(lambda n=broken: (service.model()["refused"] or {}).get("version") == str(n), 10)  # type: ignore[misc]
        assert service.recommend().json()["model_version"] == str(good)
        assert service.serves(good)
    assert service.model()["refused"]["error"] == UNFIT
    assert "finite" in service.process.log.read_text()
    packer.promote(good)
    wait_until(lambda: service.model()["refused"] is None, 10)


def test_packages_of_versions_that_were_loaded_do_not_pile_up_on_disk(
    service: Service, config: Settings
) -> None:
    assert int(service.model()["version"]) > 1
    assert not list((config.home / "tmp").rglob("MLmodel"))


def test_features_that_are_too_old_by_the_data_clock_are_not_used(service: Service, config: Settings) -> None:
    later = TINY_START + timedelta(days=4)
    publish_day(Lake(config.lake_dir), tiny_day(later, start=TINY_START))
    answer = service.recommend().json()
    assert answer["features_at"] is None and "4 days old" in answer["note"]


def test_with_mlflow_stopped_it_serves_and_catches_up_when_it_is_back(
    service: Service, packer: Recommenders, mlflow: Process
) -> None:
    serving, following = int(service.model()["version"]), packer.submit(seed=9)
    mlflow.stop()
    with Customers(service.url, *RECOMMENDATION, threads=2) as customers:
        wait_until(lambda: not service.model()["registry"]["reachable"], 20)
        assert service.model()["registry"]["error"] == AWAY
        assert service.serves(serving)
        mlflow.start()
        packer.promote(following)
        wait_until(lambda: service.serves(following), 30)
    assert {status for mine in customers.answers for _, status, _ in mine} == {200}
    assert service.model()["registry"] == {"reachable": True, "error": None}


def test_what_was_acknowledged_survives_a_kill_right_after(service: Service, config: Settings) -> None:
    assert service.process.running is not None
    (worker,) = psutil.Process(service.process.running.pid).children()
    assert service.feedback(an_event("last words")).json() == {"accepted": 1, "duplicates": 0}
    worker.kill()
    assert "last words" in stored(config)
    wait_until(lambda: _up(service), 60)  # Bento starts another worker
    assert service.feedback(an_event("last words")).json() == {"accepted": 0, "duplicates": 1}
    assert service.recommend().status_code == 200


def _up(service: Service) -> bool:
    try:
        return httpx.get(f"{service.url}/livez", timeout=30).is_success
    except httpx.HTTPError:
        return False
