"""The store keeps its promises in a folder and in a bucket alike; what only a bucket can meet is said in words."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from nightshift import buckets, s3
from nightshift.errors import LakeError, SettingsError, StoreError
from nightshift.lake import open_lake
from nightshift.s3 import S3Store
from nightshift.settings import PROJECT, Settings
from nightshift.store import LocalStore, Store, shared
from tests.s3 import BUCKET, S3Server, serving_s3


def put(store: Store, name: str, content: bytes) -> None:
    with store.new_file(name) as path:
        path.write_bytes(content)


def fill(store: Store, folder: str, **files: str) -> None:
    with store.building(folder) as room:
        for name, content in files.items():
            (room / name).write_text(content)


def killed_half_way(writing: AbstractContextManager[Path]) -> None:
    with writing as path:
        (path / "a" if path.is_dir() else path).write_text("half")
        raise KeyboardInterrupt


def content(folder: Path | None) -> dict[str, str] | None:
    if folder is None:
        return None
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_an_object_is_read_as_it_was_written_last(store: Store) -> None:
    assert store.read("nights/a.json") is None and store.names("nights") == []
    store.write("nights/a.json", b"1")
    store.write("nights/a.json", "밤".encode())
    store.write("nights/deeper/b.json", b"")
    assert store.read("nights/a.json") == "밤".encode()
    assert store.names("nights") == ["a.json"]
    store.remove("nights/a.json")
    store.remove("nights/a.json")
    assert store.read("nights/a.json") is None


def test_only_the_first_creates_an_object(store: Store) -> None:
    assert store.create("triggers/a.json", b"first")
    assert not store.create("triggers/a.json", b"second")
    assert store.read("triggers/a.json") == b"first" and store.names("triggers") == ["a.json"]


def test_a_part_of_a_store_is_the_same_store(store: Store) -> None:
    store.within("lake").write("x", b"1")
    assert store.read("lake/x") == b"1" and store.within("lake").where.startswith(store.where)


def test_a_file_is_in_the_store_whole_or_not_at_all(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        killed_half_way(store.new_file("data/a.parquet"))
    assert store.names("data") == []
    put(store, "data/a.parquet", b"whole")
    digest = hashlib.sha256(b"whole").hexdigest()
    assert store.path("data/a.parquet").read_bytes() == b"whole"
    assert store.path("data/a.parquet", digest).read_bytes() == b"whole"
    assert store.intact("data/a.parquet", digest) and not store.intact("data/a.parquet", "0" * 64)
    assert not store.intact("data/b.parquet", digest)


def test_a_folder_comes_moves_and_goes_as_a_whole(store: Store) -> None:
    assert store.folder("staging/one") is None and store.folders("staging") == []
    with pytest.raises(KeyboardInterrupt):
        killed_half_way(store.building("staging/one"))
    assert store.folder("staging/one") is None
    fill(store, "staging/one", a="1", b="2")
    fill(store, "staging/one", b="3", c="4")  # in place of what was there
    assert content(store.folder("staging/one")) == {"b": "3", "c": "4"}
    store.add("staging/one", "b", b"5")
    store.add("staging/two", "report", b"why")
    assert store.folders("staging") == ["one", "two"]
    fill(store, "aside/one", old="old")
    store.move("staging/one", "aside/one")
    assert content(store.folder("aside/one")) == {"b": "5", "c": "4"}
    assert store.folder("staging/one") is None and store.folders("staging") == ["two"]
    store.drop("aside/one")
    store.drop("aside/one")
    assert store.folder("aside/one") is None


def test_a_document_changes_and_its_stamp_with_it(store: Store) -> None:
    assert store.document("manifest.json") is None and store.stamp("manifest.json") is None
    for number in range(3):
        before = store.stamp("manifest.json")
        store.update("manifest.json", lambda known, n=number: {**(known or {}), str(n): "밤"})  # type: ignore[misc]
        assert store.stamp("manifest.json") != before
    assert store.document("manifest.json") == {"0": "밤", "1": "밤", "2": "밤"}


def test_a_file_that_changes_is_kept_as_it_was_left(store: Store) -> None:
    for expected in ("", "1", "12"):
        with store.changing("feeds.db") as path:
            told = path.read_text() if path.exists() else ""
            path.write_text(f"{told}{len(told) + 1}")
        assert told == expected


RACER = """
import sys
from pathlib import Path
from nightshift.store import LocalStore
from nightshift.s3 import S3Store
place, home, name = sys.argv[1:]
store = S3Store(place, Path(home)) if place.startswith("s3:") else LocalStore(Path(place))
print("ready", flush=True)
sys.stdin.readline()
for n in range(8):
    store.update("manifest.json", lambda known: {**(known or {}), f"{name}{n}": n})
"""


def test_two_processes_that_change_a_document_at_once_lose_nothing(store: Store, tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, store.where, str(tmp_path / name), name],
            cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in "ab"
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    assert [racer.wait(timeout=300) for racer in racers] == [0, 0]
    assert store.document("manifest.json") == {f"{name}{n}": n for name in "ab" for n in range(8)}


# --- a bucket alone --------------------------------------------------------------------------------------


def test_a_cached_file_that_is_damaged_is_fetched_again(bucket: str, tmp_path: Path) -> None:
    put(S3Store(bucket, tmp_path / "a"), "features/day.parquet", b"what it was")
    store = S3Store(bucket, tmp_path / "b")  # another machine
    digest = hashlib.sha256(b"what it was").hexdigest()
    for expected in (None, digest):
        cached = store.path("features/day.parquet", expected)
        cached.write_bytes(b"bit rot")
        assert store.path("features/day.parquet", expected).read_bytes() == b"what it was"


def test_a_cached_file_is_not_fetched_again_and_serves_while_the_server_is_away(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, digest = S3Store(bucket, tmp_path), hashlib.sha256(b"x").hexdigest()
    put(store, "lake/a", b"x")
    cached = store.path("lake/a", digest)
    stamp = cached.stat().st_mtime_ns
    monkeypatch.setattr(buckets.Bucket, "download", None)
    assert store.path("lake/a", digest).stat().st_mtime_ns == stamp


def test_a_file_that_was_rewritten_in_the_bucket_is_read_anew_and_one_that_went_goes(
    bucket: str, tmp_path: Path
) -> None:
    mine, other = S3Store(bucket, tmp_path / "a"), S3Store(bucket, tmp_path / "b")
    for name in ("day=1", "day=2"):
        put(mine, f"features/{name}", b"before")
    assert [mine.path(f"features/{name}").read_bytes() for name in mine.names("features")] == [b"before"] * 2
    other.remove("features/day=2")
    other.write("features/day=1", b"after")
    assert mine.names("features") == ["day=1"]
    assert mine.path("features/day=1").read_bytes() == b"after"
    assert [path.name for path in mine.path("features/day=1").parent.iterdir()] == ["day=1"]


def test_an_object_that_is_not_what_was_put_there_is_refused_by_name(bucket: str, tmp_path: Path) -> None:
    store = S3Store(bucket, tmp_path)
    put(store, "lake/a.parquet", b"whole")
    store.write("lake/a.parquet", b"who")
    with pytest.raises(StoreError, match=r"lake/a\.parquet: what the store has is not what was put there"):
        store.path("lake/a.parquet", hashlib.sha256(b"whole").hexdigest())
    with pytest.raises(StoreError, match=r"lake/b\.parquet: it is not there"):
        store.path("lake/b.parquet", "0" * 64)


def test_a_file_that_two_machines_change_at_once_keeps_the_first_change(bucket: str, tmp_path: Path) -> None:
    mine, other = S3Store(bucket, tmp_path / "a"), S3Store(bucket, tmp_path / "b")

    def meanwhile() -> None:
        with mine.changing("feeds.db") as path:
            path.write_text("mine")
            with other.changing("feeds.db") as theirs:
                theirs.write_text("other")

    with pytest.raises(StoreError, match="another machine changed it at the same time"):
        meanwhile()
    with mine.changing("feeds.db") as path:
        assert path.read_text() == "other"


def test_a_document_keeps_its_newest_versions_alone(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "KEPT_VERSIONS", 3)
    store = S3Store(bucket, tmp_path)
    for number in range(5):
        store.update("manifest.json", lambda _, n=number: {"n": n})  # type: ignore[misc]
    assert store.names("manifest.json") == ["0000000003", "0000000004", "0000000005"]
    store.update("manifest.json", lambda known: known or {})
    assert store.stamp("manifest.json") == 5, "no change, no version"


def test_a_store_that_ignores_conditions_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving_s3(tmp_path, "nanio") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = S3Store(f"s3://{BUCKET}/there", tmp_path / "cache")
        with pytest.raises(StoreError, match="ignores conditional writes"):
            store.update("manifest.json", lambda _: {"day": 1})
        assert store.document("manifest.json") is None
        store.write("a", b"1")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        buckets.bucket.cache_clear()
        with pytest.raises(
            StoreError, match=r"s3://nightshift/there/a: .* \(SignatureDoesNotMatch.* right"
        ) as told:
            S3Store(f"s3://{BUCKET}/there", tmp_path / "cache").read("a")
        assert "wrong" not in str(told.value)


def test_a_bucket_that_is_not_there_and_a_server_that_is_away_are_named(
    s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        StoreError, match="has no bucket 'nobodys'; create it, or correct NIGHTSHIFT_STORE_URL"
    ):
        S3Store("s3://nobodys/x", tmp_path).names("lake")
    with pytest.raises(StoreError, match="has no bucket 'nobodys'"):
        fill(S3Store("s3://nobodys/x", tmp_path), "staging/one", a="1")
    monkeypatch.setattr(buckets, "CALLS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreError, match=r"http://127\.0\.0\.1:1 cannot be reached .* AWS_ENDPOINT_URL"):
        S3Store(bucket, tmp_path).names("lake")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL 'minio:9000' is no address"):
        S3Store(bucket, tmp_path).names("lake")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("RequestTimeTooSkewed", "refuses this machine's clock"),
        ("AccessDenied", "are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY right"),
        ("SlowDown", r"refuses \(SlowDown: too many\)"),
    ],
)
def test_what_a_server_refuses_is_said_with_what_to_do(code: str, told: str) -> None:
    error = ClientError({"Error": {"Code": code, "Message": "too many"}}, "PutObject")
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(buckets._reason(error, "http://there", "b"))


def test_a_disk_that_cannot_hold_the_cache_is_named(bucket: str, tmp_path: Path) -> None:
    put(S3Store(bucket, tmp_path / "a"), "x", b"1")
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(StoreError, match="the cache cannot be written"):
        S3Store(bucket, tmp_path / "cache").path("x", hashlib.sha256(b"1").hexdigest())


def test_an_upload_that_is_refused_says_why(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "CALLS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreError, match="cannot be reached"):
        buckets.bucket(BUCKET, "http://127.0.0.1:1", os.getpid()).upload("x", Path(__file__))


def test_the_settings_say_which_store_and_a_folder_that_is_none_is_refused(
    bucket: str, tmp_path: Path
) -> None:
    here = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    there = here.model_copy(update={"store_url": bucket})
    assert isinstance(shared(here), LocalStore) and isinstance(shared(there), S3Store)
    with pytest.raises(SettingsError, match=f"lake is in {bucket}"):
        _ = there.lake_dir
    with pytest.raises(LakeError, match=f"{bucket}/lake: this lake is no folder"):
        _ = open_lake(there).root


@pytest.mark.parametrize("url", ["s3://", "s3://UPPER/x", "http://b/x", "s3://key:secret@b/x", "s3://b?x=1"])
def test_a_store_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="store_url"):
        Settings(_env_file=None, store_url=url)  # type: ignore[call-arg]


def test_what_a_folder_holds_is_what_it_always_was(tmp_path: Path) -> None:
    """An earlier home is opened as it is: the same names, the same bytes."""
    store = shared(Settings(_env_file=None, home=tmp_path))  # type: ignore[call-arg]
    store.within("lake").update("manifest.json", lambda _: {"version": 1, "days": {"밤": 1}})
    manifest = tmp_path / "lake" / "manifest.json"
    told = json.dumps({"version": 1, "days": {"밤": 1}}, ensure_ascii=False, indent=1, sort_keys=True)
    assert manifest.read_text(encoding="utf-8") == told
    assert sorted(os.listdir(tmp_path / "lake")) == [".lock", "manifest.json"]
