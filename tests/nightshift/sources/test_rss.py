"""The collector of feeds: real feed files served on loopback, followed over weeks, and every way they go wrong."""

from __future__ import annotations

import gzip
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from nightshift.contracts import INDICATORS
from nightshift.errors import LakeError, SettingsError, SourceError
from nightshift.lake import Lake
from nightshift.settings import Settings
from nightshift.sources import DayBatch, feed, open_source
from nightshift.sources.feed import UnreadableFeed, fetch, is_inside, items_of
from nightshift.sources.rss import Feeds
from tests.conftest import publish_day

FILES = Path(__file__).parent / "feeds"
NIGHT = date(2026, 9, 2)  # a Wednesday; the newest week over is 2026-W35
NOW = datetime(2026, 9, 3, 1, tzinfo=UTC)  # when that night runs


class Web:
    """A web server on loopback. `pages`: path → (status, headers, content); `asked`: paths, in order.

    Asked as a proxy, it answers for every host, and the path is the whole address.
    """

    def __init__(self) -> None:
        web = self
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.encodings: set[str | None] = set()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                web.encodings.add(self.headers["Accept-Encoding"])
                status, headers, content = web.pages.get(self.path, (404, {}, b"no such page"))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()

    def serve(self, path: str, content: bytes, content_type: str = "application/rss+xml") -> str:
        self.pages[path] = (200, {"Content-Type": content_type}, content)
        return self.root + path

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.stop()


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "var", feeds=tmp_path / "feeds.yaml")  # type: ignore[call-arg]


def follow(config: Settings, **topics: list[str]) -> None:
    assert config.feeds is not None
    config.feeds.write_text(yaml.safe_dump(topics, allow_unicode=True), encoding="utf-8")


def night(config: Settings, day: date = NIGHT, now: datetime | None = None) -> DayBatch:
    """What the feeds tell a night that runs in the small hours after its day."""
    moment = now or datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1, hours=1)
    return Feeds(config, clock=moment.timestamp).read(day)


def told(batch: DayBatch) -> dict[tuple[str, str], float]:
    return {
        (r["topic"], r["week"]): r["policy_change_frequency"] for r in batch.tables["indicators"].to_pylist()
    }


def feed_of(*items: tuple[str, str]) -> bytes:
    """An RSS feed of (id, date) items, such as ("a", "2026-08-31")."""
    rows = "".join(
        f"<item><title>{key}</title><guid>{key}</guid>"
        + (f"<pubDate>{date.fromisoformat(day):%d %b %Y} 12:00:00 GMT</pubDate>" if day else "")
        + "</item>"
        for key, day in items
    )
    return f'<rss version="2.0"><channel><title>t</title>{rows}</channel></rss>'.encode()


# --- counting ------------------------------------------------------------------------------------------


def test_items_of_rss_atom_and_rdf_are_counted_by_topic_and_week_with_the_quiet_weeks_between(
    config: Settings, web: Web
) -> None:
    urls = [
        web.serve(f"/{path.name}", path.read_bytes(), "text/xml") for path in sorted(FILES.iterdir())
    ]  # gazette.rdf (EUC-KR), ministry.rss, standards.atom
    follow(config, **{"배터리 재활용": [urls[1]], "robotics": [urls[0], urls[2]]})
    batch = night(config)
    assert told(batch) == {
        ("배터리 재활용", "2026-W33"): 0,
        ("배터리 재활용", "2026-W34"): 1,
        ("배터리 재활용", "2026-W35"): 2,  # Monday morning in Seoul is Sunday evening in UTC
        ("robotics", "2026-W34"): 0,
        ("robotics", "2026-W35"): 3,
    }, "a week is told from the first one on that all feeds of the topic reach back to"
    assert batch.tables["indicators"].schema.equals(INDICATORS.schema)
    assert batch.counts == {"read": 3, "kept": 3}
    others = set(INDICATORS.schema.names) - {"topic", "week", "policy_change_frequency"}
    assert all(batch.tables["indicators"][name].null_count == 5 for name in others)


def test_only_what_is_new_or_has_changed_is_told_again(config: Settings, web: Web) -> None:
    follow(config, law=[web.serve("/a", feed_of(("1", "2026-08-05"), ("2", "2026-08-20")))])
    first = night(config)
    assert told(first) == {("law", f"2026-W{week}"): float(week == 34) for week in (33, 34, 35)}
    publish_day(Lake(config.lake_dir), first)
    assert told(night(config, NIGHT + timedelta(days=1))) == {}
    web.serve(
        "/a", feed_of(("1", "2026-08-05"), ("2", "2026-08-20"), ("3", "2026-08-21"), ("4", "2026-09-02"))
    )
    assert told(night(config, NIGHT + timedelta(days=7))) == {("law", "2026-W34"): 2, ("law", "2026-W36"): 1}


def test_several_days_taken_in_at_once_read_each_feed_once_and_tell_each_week_once(
    config: Settings, web: Web
) -> None:
    follow(config, law=[web.serve("/a", feed_of(("1", "2026-08-05"), ("2", "2026-08-20")))])
    feeds, lake = Feeds(config, clock=NOW.timestamp), Lake(config.lake_dir)
    days = [date(2026, 8, 22) + timedelta(days=n) for n in range(10)]
    weeks = []
    for day in days:
        batch = feeds.read(day)
        lake.stage(batch)
        weeks += list(told(batch))
    assert weeks == [("law", "2026-W33"), ("law", "2026-W34"), ("law", "2026-W35")]
    assert web.asked == ["/a"]


def test_what_a_quarantined_day_had_told_is_told_again(config: Settings, web: Web) -> None:
    follow(config, law=[web.serve("/a", feed_of(("1", "2026-08-05"), ("2", "2026-08-20")))])
    lake, batch = Lake(config.lake_dir), night(config)
    lake.stage(batch)
    lake.quarantine(NIGHT, {})
    assert told(night(config, NIGHT + timedelta(days=1))) == told(batch)


def test_an_item_that_left_the_feed_still_counts_and_none_counts_twice(config: Settings, web: Web) -> None:
    same = feed_of(("1", "2026-08-05"), ("2", "2026-08-25"))
    follow(config, law=[web.serve("/a", same), web.serve("/b", same)], trade=[web.root + "/a"])
    night(config, NIGHT - timedelta(days=5))
    later = feed_of(("2", "2026-08-25"), ("3", "2026-08-28"))
    web.serve("/a", later)
    web.serve("/b", later)
    counts = told(night(config))
    assert counts["law", "2026-W35"] == counts["trade", "2026-W35"] == 2


def test_items_that_an_older_version_kept_still_count_and_a_newer_one_is_refused(
    config: Settings, web: Web
) -> None:
    path = config.home / "feeds.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    monday = int(datetime(2026, 8, 24, 12, tzinfo=UTC).timestamp())
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE items (topic TEXT NOT NULL, key TEXT NOT NULL, published INTEGER NOT NULL, "
            "first_seen INTEGER NOT NULL, PRIMARY KEY (topic, key))"
        )
        database.execute("INSERT INTO items VALUES ('배터리', 'kept', ?, ?)", [monday, monday])
    follow(config, 배터리=[web.serve("/a", feed_of(("new", "2026-08-25"), ("old", "2026-08-03")))])
    assert told(night(config))["배터리", "2026-W35"] == 2
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(LakeError, match="made by a newer Nightshift"):
        night(config)


def test_items_without_a_date_or_id_belong_to_the_week_that_first_saw_them(
    config: Settings, web: Web
) -> None:
    undated = b'<rss version="2.0"><channel><item><title>%d</title></item>%s</channel></rss>'
    follow(config, law=[web.serve("/a", undated % (1, b""))])
    assert told(night(config)) == {}, "the week in which it was first read was not followed from its start"
    web.serve("/a", undated % (1, b"<item><title>2</title></item>"))
    night(config, NIGHT + timedelta(days=6))
    assert told(night(config, NIGHT + timedelta(days=13))) == {("law", "2026-W37"): 1}


def test_a_date_in_the_future_counts_when_it_was_seen(config: Settings) -> None:
    (item,) = items_of(feed_of(("1", "2030-01-01")), "", now=1_000)
    assert item.published == 1_000


# --- missing is not zero -------------------------------------------------------------------------------


def test_weeks_that_no_reading_reaches_back_to_are_not_told(config: Settings, web: Web) -> None:
    follow(config, law=[web.serve("/a", feed_of(("1", "2026-07-01"), ("2", "2026-07-28")))])
    night(config, date(2026, 8, 5))
    web.serve("/a", feed_of(("8", "2026-08-27"), ("9", "2026-09-07")))  # who knows what came between
    weeks = [week for _, week in told(night(config, date(2026, 9, 16)))]
    assert weeks == ["2026-W28", "2026-W29", "2026-W30", "2026-W31", "2026-W36", "2026-W37"]


def test_after_a_time_without_answers_a_feed_that_is_long_enough_leaves_no_gap(
    config: Settings, web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [("1", "2026-07-20"), ("2", "2026-08-03")]
    follow(config, law=[web.serve("/a", feed_of(*items))])
    publish_day(Lake(config.lake_dir), night(config, date(2026, 8, 5)))
    page = web.pages.pop("/a")
    for day in (date(2026, 8, 12), date(2026, 8, 19)):
        batch = night(config, day)
        assert told(batch) == {} and batch.counts == {"read": 1, "kept": 0, "unreadable": 1}
    assert f"feed {web.root}/a: it answers 404" in capsys.readouterr().err
    web.pages["/a"] = page
    web.serve("/a", feed_of(*items, ("3", "2026-08-18")))
    assert told(night(config, date(2026, 8, 26))) == {
        ("law", "2026-W32"): 1,
        ("law", "2026-W33"): 0,
        ("law", "2026-W34"): 1,
    }


def test_one_unreadable_feed_keeps_back_its_own_topics_alone(config: Settings, web: Web) -> None:
    good = web.serve("/a", feed_of(("1", "2026-08-05"), ("2", "2026-08-20")))
    follow(config, law=[good, web.root + "/gone"], trade=[good])
    batch = night(config)
    assert {topic for topic, _ in told(batch)} == {"trade"}
    assert batch.counts == {"read": 2, "kept": 1, "unreadable": 1}


def test_a_feed_that_is_empty_is_followed_and_zero_from_then_on(config: Settings, web: Web) -> None:
    follow(config, law=[web.serve("/a", feed_of())])
    assert told(night(config)) == {}
    web.serve("/a", feed_of(("1", "2026-09-15")))
    assert told(night(config, date(2026, 9, 23))) == {("law", "2026-W37"): 0, ("law", "2026-W38"): 1}


# --- what the web may answer ---------------------------------------------------------------------------


def test_broken_feeds_are_refused_with_the_reason() -> None:
    whole = (FILES / "ministry.rss").read_bytes()
    for content, reason in (
        (whole[: len(whole) // 2], "cut short"),
        (b"<html><body>Please sign in</body></html>", "no RSS or Atom feed"),
        (b"", "no RSS or Atom feed"),
        (b"\x89PNG\r\n\x1a\n", "no RSS or Atom feed"),
        (b"/etc/passwd", "no RSS or Atom feed"),
    ):
        with pytest.raises(UnreadableFeed, match=reason):
            items_of(content, "application/rss+xml", now=0)


def test_small_errors_of_form_and_a_wrong_encoding_are_forgiven() -> None:
    now = int(NOW.timestamp())
    ampersand = (FILES / "ministry.rss").read_bytes().replace("보조금 확대".encode(), b"R&D & more")
    assert len(items_of(ampersand, "text/xml", now)) == 4
    latin = feed_of(("1", "2026-08-05")).replace(b"<title>1", b"<title>caf\xe9")
    assert (
        len(items_of(b'<?xml version="1.0" encoding="utf-8"?>' + latin, "text/xml; charset=utf-8", now)) == 1
    )
    assert len(items_of((FILES / "gazette.rdf").read_bytes(), "text/html", now)) == 2


def test_nonsense_in_a_date_counts_as_none() -> None:
    for nonsense in (b"yesterday", b"05 Aug 0001 12:00:00 GMT", b"99 Foo 9999999 99:99:99"):
        content = feed_of(("1", "2026-08-05")).replace(b"05 Aug 2026 12:00:00 GMT", nonsense)
        (item,) = items_of(content, "", now=1_000)
        assert item.published == 1_000


def test_a_feed_that_is_too_long_is_given_up(web: Web) -> None:
    url = web.serve("/big", b" " * (feed.MAX_BYTES + 1))
    with pytest.raises(UnreadableFeed, match="longer than 5 MiB"):
        fetch(url)


def test_a_redirect_is_followed_on_the_web_and_nowhere_else(web: Web) -> None:
    web.serve("/new", b"feed")
    web.pages["/old"] = (301, {"Location": "/new"}, b"")
    web.pages["/file"] = (302, {"Location": "file:///etc/passwd"}, b"")
    web.pages["/round"] = (302, {"Location": "/round"}, b"")
    assert fetch(web.root + "/old")[0] == b"feed"
    with pytest.raises(UnreadableFeed, match=r"leads to file:.*no plain address"):
        fetch(web.root + "/file")
    with pytest.raises(UnreadableFeed, match="leads on more than 5 times"):
        fetch(web.root + "/round")


def test_a_redirect_does_not_lead_from_the_web_into_the_own_network(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", web.root)  # so that public addresses are answered here
    monkeypatch.setenv("no_proxy", "")
    asked = "http://93.184.216.34/feed"
    for target in (
        "http://169.254.169.254/latest/meta-data?token=secret",
        "http://[::ffff:127.0.0.1]/",
        "http://localhost:9/admin",
        "http://2130706433/",
    ):
        web.pages[asked] = (302, {"Location": target}, b"")
        with pytest.raises(UnreadableFeed, match="inside the own network") as refused:
            feed.read(asked, now=0)
        assert "secret" not in str(refused.value)
    assert set(web.asked) == {asked}
    web.pages[asked] = (302, {"Location": "http://user:secret@93.184.216.34/feed"}, b"")
    with pytest.raises(UnreadableFeed, match=r"leads to http://93\.184\.216\.34/feed, .*no plain address"):
        fetch(asked)
    web.pages[asked] = (302, {"Location": "http://1.1.1.1/moved"}, b"")
    web.pages["http://1.1.1.1/moved"] = (200, {}, feed_of(("1", "2026-08-05")))
    assert len(feed.read(asked, now=int(NOW.timestamp()))) == 1


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("192.168.0.1", True),
        ("169.254.169.254", True),
        ("100.64.0.1", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("[::1]", True),
        ("[fe80::1]", True),
        ("[fd00::1]", True),
        ("[::ffff:10.0.0.1]", True),
        ("0x7f.1", True),
        ("localhost", True),
        ("93.184.216.34", False),
        ("[2606:4700:4700::1111]", False),
        ("nobody.invalid", False),
        (f"{'a' * 64}.example", False),
    ],
)
def test_addresses_that_are_not_of_the_public_internet_are_known(host: str, inside: bool) -> None:
    assert is_inside(httpx.URL(f"http://{host}/")) == inside


def test_errors_of_the_server_and_of_the_net_are_told(web: Web) -> None:
    web.pages["/sick"] = (503, {}, b"")
    web.pages["/cut"] = (200, {"Content-Length": "1000"}, b"<rss")
    with pytest.raises(UnreadableFeed, match="it answers 503 Service Unavailable"):
        fetch(web.root + "/sick")
    with pytest.raises(UnreadableFeed, match="RemoteProtocolError"):
        fetch(web.root + "/cut")
    web.stop()
    with pytest.raises(UnreadableFeed, match="ConnectError"):
        fetch(web.root + "/sick")


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n<rss"])
def test_a_server_that_only_drips_is_given_up(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(feed, "SECONDS_IN_ALL", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    connection.sendall(sent)
                    while True:
                        time.sleep(0.05)
                        connection.sendall(b"a")
                except OSError:
                    return  # whoever read it is gone

        dripping = threading.Thread(target=drip)
        dripping.start()
        with pytest.raises(UnreadableFeed, match="could not be read in 2 s"):
            feed.read(f"http://127.0.0.1:{server.getsockname()[1]}/", now=0)
        dripping.join(timeout=10)
        assert not dripping.is_alive(), "the reader still listens"


def test_a_feed_that_keeps_its_parser_busy_stops_neither_the_night_nor_the_others(
    monkeypatch: pytest.MonkeyPatch, config: Settings, web: Web
) -> None:
    monkeypatch.setattr(feed, "SECONDS_IN_ALL", 4.0)
    slow = web.serve("/slow", b"\n" * (4 * 2**20) + feed_of(("1", "2026-08-05")))
    good = web.serve("/good", feed_of(("1", "2026-08-05"), ("2", "2026-08-20")))
    follow(config, law=[slow], trade=[good])
    began = time.monotonic()
    batch = night(config)
    assert time.monotonic() - began < 10
    assert {topic for topic, _ in told(batch)} == {"trade"}
    assert batch.counts == {"read": 2, "kept": 1, "unreadable": 1}


def test_a_compressed_answer_is_refused_unopened(web: Web) -> None:
    bomb = gzip.compress(gzip.compress(gzip.compress(b"\0" * 2**24)))
    web.pages["/bomb"] = (200, {"Content-Encoding": "gzip, gzip, gzip"}, bomb)
    with pytest.raises(UnreadableFeed, match="sent as gzip, gzip, gzip"):
        feed.read(web.root + "/bomb", now=0)
    assert web.encodings == {"identity"}


def test_a_feed_of_too_many_items_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MOST_ITEMS", 1)
    assert len(items_of(feed_of(("1", "")), "", now=0)) == 1
    with pytest.raises(UnreadableFeed, match="more than 1 items"):
        items_of(feed_of(("1", ""), ("2", "")), "", now=0)


def test_the_reader_of_a_feed_has_bounded_memory_and_takes_nothing_of_nightshift_with_it() -> None:
    program = (
        f"import runpy, sys; reader = runpy.run_path({feed.__file__!r})\n"
        "assert not {'nightshift', 'pandas', 'numpy', 'pyarrow', 'pydantic'} & set(sys.modules)\n"
        "reader['limit_this_process']()\n"
        "bytearray(reader['MEMORY'])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr.splitlines()[-1]


def test_a_reader_that_ends_without_a_word_is_an_unreadable_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "__file__", "/no/such/program.py")
    with pytest.raises(UnreadableFeed, match=r"reading it ended with 2 .*No such file"):
        feed.read("http://127.0.0.1:9/", now=0)


def test_an_address_is_printed_without_what_may_be_secret(
    config: Settings, web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(config, law=[f"{web.root}/gone?token=secret#secret"])
    night(config)
    said = capsys.readouterr().err
    assert f"feed {web.root}/gone: it answers 404" in said and "secret" not in said


def test_a_hostile_feed_with_growing_entities_does_no_harm() -> None:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = (
        f'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY e0 "ha">{levels}]><rss version="2.0"><channel><item>'
    )
    content = f"{bomb}<title>&e11;</title><guid>1</guid></item></channel></rss>".encode()
    began = time.process_time()
    assert len(items_of(content, "text/xml", now=0)) <= 1
    assert time.process_time() - began < 5


# --- settings and storage ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no topics"),
        ("- http://a.example/x", "no topics"),
        ("law: http://a.example/x", "topic 'law': 'http://a.example/x' is not a list of addresses"),
        ("law: []", r"topic 'law': \[\] is not a list"),
        ("law: [ftp://a.example/x]", "topic 'law': 'ftp://a.example/x' is not an address"),
        ("law: [file:///etc/passwd]", "not an address"),
        ("law: ['http://']", "not an address"),
        ("law: [12]", "topic 'law': 12 is not an address"),
        ("12: [http://a.example/x]", "12 is no topic"),
        (f"{'긴' * 129}: [http://a.example/x]", "up to 128 characters"),
        ("law: [http://a.example/x", "not YAML in line 1"),
        (
            "law: ['http://me:secret@a.example/x?y=secret']",
            "'http://a.example/x' .*without user and password",
        ),
        ("law: ['http://me:secret@a.example:port/x?secret']", "'a.example:port/x' is not an address"),
        ("law: ['http://me:secret@a.example/x", "not YAML in line 1"),
    ],
)
def test_a_wrong_feeds_file_is_named_with_what_is_wrong(config: Settings, text: str, words: str) -> None:
    assert config.feeds is not None
    config.feeds.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=words) as refused:
        open_source("feeds", config)
    assert str(config.feeds) in str(refused.value) and "secret" not in str(refused.value)


def test_the_published_and_the_staged_days_are_read_once_for_all_days_taken_in(
    config: Settings, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(config, law=[web.serve("/a", feed_of(("1", "2026-08-05"), ("2", "2026-08-20")))])
    publish_day(Lake(config.lake_dir), night(config, date(2026, 8, 17)))
    reads: list[object] = []
    read, staged = Lake.read, Lake.staged
    monkeypatch.setattr(Lake, "read", lambda lake, *of: reads.append(of) or read(lake, *of))
    monkeypatch.setattr(Lake, "staged", lambda lake, day: reads.append(day) or staged(lake, day))
    feeds, lake = Feeds(config, clock=NOW.timestamp), Lake(config.lake_dir)
    weeks = []
    for number in range(10):
        batch = feeds.read(date(2026, 8, 22) + timedelta(days=number))
        lake.stage(batch)
        weeks += [week for _, week in told(batch)]
    assert weeks == ["2026-W34", "2026-W35"]
    assert len(reads) == 1 + 9


def test_an_absent_or_unset_feeds_file_is_said(config: Settings) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Feeds(config)
    with pytest.raises(SettingsError, match="NIGHTSHIFT_FEEDS is not set"):
        Feeds(config.model_copy(update={"feeds": None}))


def test_a_database_that_is_none_is_named(config: Settings, web: Web) -> None:
    follow(config, law=[web.serve("/a", feed_of(("1", "2026-08-05")))])
    config.home.mkdir()
    (config.home / "feeds.db").write_bytes(b"not a database" * 100)
    with pytest.raises(LakeError, match=r"feeds.db: cannot be read or written"):
        night(config)


def test_its_days_are_those_of_its_items(config: Settings, web: Web) -> None:
    follow(config, law=[web.serve("/a", feed_of(("1", "2026-08-05"), ("2", "2026-08-20")))])
    feeds = Feeds(config, clock=NOW.timestamp)
    with pytest.raises(SourceError, match="no item"):
        feeds.first_day()
    feeds.read(NIGHT)
    assert feeds.first_day() == date(2026, 8, 5)
    assert feeds.next_day(date(2026, 8, 5)) == date(2026, 8, 20)
    assert feeds.next_day(date(2026, 8, 20)) is None
