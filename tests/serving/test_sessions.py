"""What users did lately: remembered within bounds, from this service and from the log; and it changes the next list.

The last tests run the real service with a real item-kNN: one version, that nobody trains again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nightshift.eventlog import EventLog
from nightshift.seats import RECOMMENDER
from nightshift.settings import Settings
from serving import sessions
from serving.sessions import DAYS, Lately, Sessions
from tests.serving.conftest import Packer, Service, serving, wait_until
from tests.training.baselines.test_neighbours import window
from training.baselines.item_knn import write
from training.baselines.neighbours import Hyper, fit

NOW = datetime(2026, 9, 29, 15, tzinfo=UTC)


def did(item: str, user: str = "u1", minutes_ago: float = 0, **other: Any) -> dict[str, Any]:
    at = NOW - timedelta(minutes=minutes_ago)
    return {"user_id": user, "item_id": item, "kind": "click", "value": None, "at": at, **other}


def logged(event_id: str, item: str, user: str = "u1", **other: Any) -> dict[str, Any]:
    known = {"event_id": event_id, "session_id": None, "device": "mobile", "channel": "home"}
    return {**did(item, user), **known, **other}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    log = EventLog(f"sqlite:///{tmp_path / 'log.db'}", wait_seconds=0.2)
    yield log
    log.close()


@pytest.fixture
def memory(log: EventLog) -> Sessions:
    return Sessions(log, users=3, items=4)


def started(log: EventLog) -> Sessions:
    memory = Sessions(log)
    memory.start()
    return memory


# --- what is remembered ----------------------------------------------------------------------------------


def test_items_come_back_oldest_first_each_once_at_its_newest_moment(memory: Sessions) -> None:
    memory.note([did("a", minutes_ago=9), did("b", minutes_ago=5), did("c", minutes_ago=7)])
    assert memory.of("u1", NOW).liked == ("a", "c", "b")
    memory.note([did("a", minutes_ago=1), did("b", minutes_ago=60)])
    assert memory.of("u1", NOW) == Lately(("c", "b", "a"), frozenset("abc"))
    assert memory.of("somebody else", NOW) == Lately()


def test_a_low_rating_alone_says_nothing_of_taste_but_the_item_was_met(memory: Sessions) -> None:
    memory.note([did("bad", kind="rating", value=2.0), did("good", kind="rating", value=3.0)])
    memory.note([did("both"), did("both", kind="rating", value=1.0)])
    found = memory.of("u1", NOW)
    assert set(found.liked) == {"good", "both"} and found.met == {"bad", "good", "both"}


def test_what_is_older_than_a_week_by_the_services_clock_is_forgotten(memory: Sessions) -> None:
    memory.note([did("old", minutes_ago=DAYS * 24 * 60 + 1), did("new", minutes_ago=DAYS * 24 * 60 - 1)])
    assert memory.of("u1", NOW) == Lately(("new",), frozenset({"new"}))
    assert memory.of("u1", NOW + timedelta(days=1)) == Lately()


def test_only_the_newest_items_of_the_users_who_came_last_are_kept(memory: Sessions) -> None:
    memory.note([did(f"i{n}", minutes_ago=60 - n) for n in range(10)])
    assert memory.of("u1", NOW).liked == ("i6", "i7", "i8", "i9")
    memory.note([did("i1", user) for user in ("u2", "u3", "u1", "u4")])
    assert memory.of("u2", NOW) == Lately() and memory.of("u1", NOW).met


def test_of_one_moment_the_order_they_were_told_in_stands_and_telling_again_changes_nothing(
    memory: Sessions,
) -> None:
    told = [did("b"), did("a"), did("c")]
    memory.note(told)
    memory.note(told)
    memory.note(told[:1])
    assert memory.of("u1", NOW).liked == ("b", "a", "c")


# --- the log ---------------------------------------------------------------------------------------------


def test_what_was_accepted_before_it_started_is_known_at_once(log: EventLog) -> None:
    log.append([logged("e1", "a"), logged("e2", "b", kind="rating", value=1.0)])
    memory = started(log)
    assert memory.of("u1", NOW) == Lately(("a",), frozenset("ab"))
    memory.stop()


def test_what_another_worker_accepts_is_known_within_seconds(log: EventLog) -> None:
    memory = started(log)
    other = EventLog(str(log._url))
    other.append([logged("e1", "a")])
    wait_until(lambda: memory.of("u1", NOW).liked == ("a",), 5)
    other.close()
    memory.stop()


def test_an_event_that_was_stamped_before_a_look_and_stored_after_it_is_not_missed(log: EventLog) -> None:
    memory = Sessions(log)
    memory._look()
    log.append([logged("e1", "a")])
    assert memory._read_until is not None
    memory._read_until += sessions.OVERLAP / 2  # as if the event had waited that long for its turn
    memory._look()
    assert memory.of("u1", NOW).liked == ("a",)


def test_while_the_log_is_away_it_goes_on_says_so_once_and_then_reads_what_it_missed(
    log: EventLog, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "EVERY_SECONDS", 0.05)
    log.append([logged("e1", "a")])
    memory = started(log)
    path, aside = tmp_path / "log.db", tmp_path / "aside.db"
    log.close()
    path.rename(aside)
    path.mkdir()  # nothing can be opened there
    until(lambda: "remembered from this service alone" in caplog.text)
    memory.note([did("b")])
    time.sleep(0.3)
    assert memory.of("u1", NOW).met == {"a", "b"}
    assert caplog.text.count("remembered from this service alone") == 1
    path.rmdir()
    for rest in tmp_path.glob("log.db-*"):
        rest.unlink()
    aside.rename(path)
    log.append([logged("e2", "c")])
    until(lambda: memory.of("u1", NOW).met == {"a", "b", "c"})
    assert "answers again" in caplog.text
    memory.stop()


def test_a_service_starts_without_the_log_too(tmp_path: Path) -> None:
    (tmp_path / "log.db").mkdir()
    memory = started(EventLog(f"sqlite:///{tmp_path / 'log.db'}", wait_seconds=0.1))
    memory.note([did("a")])
    assert memory.of("u1", NOW).liked == ("a",)
    memory.stop()


def until(true: Callable[[], bool]) -> None:
    wait_until(true, 10)


# --- the real service ------------------------------------------------------------------------------------

# u0 and u1 met items 0 and 1 together; 2 and 3 belong together, and so do 5 and 6; 4 is met most.
PAIRS = {0: (0, 1), 1: (0, 1), 2: (2, 3), 3: (2, 3), 4: (5, 6), 5: (5, 6), 6: (5,), 7: (0,)}
MET = {(user, item) for user, items in PAIRS.items() for item in items} | {(user, 4) for user in range(7)}
USERS = 8


@pytest.fixture(scope="module")
def service(config: Settings, tracking: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The real service with one version of item-kNN in the seat, as its recipe packages it."""
    given, hyper = window(MET, users=USERS), Hyper(neighbours=3, shrink=1.0)
    package = write(given, hyper, fit(given, hyper), tmp_path_factory.mktemp("knn"))
    packer = Packer(config, tmp_path_factory.mktemp("packages"))
    number = packer.log(package.predictor, package.artifacts, {"ndcg_at_10": 0.2}, {"family": "item_knn"})
    packer.promote(number)
    url, process = serving(config, RECOMMENDER)
    try:
        process.start()
        service = Service(url, process, {})
        wait_until(lambda: service.serves(number), 30, lambda: process.log.read_text()[-3000:])
        yield service
    finally:
        process.stop()


def listed(service: Service, user: str, **body: Any) -> list[str]:
    return [item["item_id"] for item in service.recommend(user_id=user, k=7, **body).json()["items"]]


def clicks(service: Service, event_id: str, user: str, item: str, **other: Any) -> None:
    event = {"event_id": event_id, "user_id": user, "item_id": item, "kind": "click", **other}
    assert service.feedback(event).json() == {"accepted": 1, "duplicates": 0}


def test_one_click_changes_the_very_next_list_of_a_known_user_without_a_new_version(service: Service) -> None:
    before = service.recommend(user_id="u6", k=7).json()
    assert before["items"][0]["item_id"] == "i6" and before["recent_items_used"] == 0
    clicks(service, "s1", "u6", "i2")
    after = service.recommend(user_id="u6", k=7).json()
    places = (
        {one["item_id"]: one["rank"] for one in before["items"]},
        {i["item_id"]: i["rank"] for i in after["items"]},
    )
    assert "i2" not in places[1] and places[1]["i3"] == 1 < places[0]["i3"]
    assert after["known_user"] and after["recent_items_used"] == 1
    assert after["model_version"] == before["model_version"] == service.model()["version"] == "1"


def test_one_click_changes_the_very_next_list_of_a_stranger(service: Service) -> None:
    assert listed(service, "newcomer")[:2] == ["i4", "i0"]
    clicks(service, "s2", "newcomer", "i5")
    after = service.recommend(user_id="newcomer", k=7).json()
    assert after["items"][0]["item_id"] == "i6" and not after["known_user"]
    assert "what was met lately decides" in after["note"] and after["recent_items_used"] == 1


def test_a_low_rating_takes_the_item_off_the_list_and_moves_nothing_else(service: Service) -> None:
    before = listed(service, "critic")
    event = {"event_id": "s3", "user_id": "critic", "item_id": "i2", "kind": "rating", "value": 1}
    service.feedback(event)
    assert listed(service, "critic") == [item for item in before if item != "i2"]


def test_a_request_brings_what_was_not_sent_as_feedback_and_it_is_used_for_this_list_alone(
    service: Service,
) -> None:
    before = listed(service, "guest")
    answer = service.recommend(user_id="guest", k=7, recent_items=["i2", "an item of tomorrow"]).json()
    assert answer["items"][0]["item_id"] == "i3" and answer["recent_items_used"] == 1
    assert "i2" not in [item["item_id"] for item in answer["items"]]
    assert listed(service, "guest") == before


def test_an_event_that_was_stored_before_is_not_taken_from_its_second_sending(service: Service) -> None:
    clicks(service, "s4", "again", "i0")
    before = listed(service, "again")
    resent = {"event_id": "s4", "user_id": "again", "item_id": "i5", "kind": "click"}
    assert service.feedback(resent).json() == {"accepted": 0, "duplicates": 1}
    assert listed(service, "again") == before and "i5" in before


def test_what_another_worker_took_in_counts_within_seconds(service: Service, config: Settings) -> None:
    log = EventLog(config.eventlog_uri)
    today = datetime.fromisoformat("2026-09-02T00:00:00+00:00")
    log.append([logged("s5", "i5", "elsewhere", at=today)])
    log.close()
    wait_until(lambda: listed(service, "elsewhere")[0] == "i6", 10)


def test_after_a_restart_it_still_knows_what_users_did(service: Service) -> None:
    before = {user: listed(service, user) for user in ("u6", "newcomer", "critic", "again")}
    service.process.stop()
    service.process.start()
    wait_until(lambda: service.serves(1), 30)
    assert {user: listed(service, user) for user in before} == before
