"""Policy changes counted from RSS and Atom feeds: how many items a topic's feeds had in each week.

`settings.feeds` is a YAML file, each topic with its feeds:

    배터리 재활용:
      - https://ministry.example/energy.rss
    robotics: [https://standards.example/robots.atom, https://law.example/machines.rss]

It joins the source that a night takes its day from, and tells `policy_change_frequency` alone; for the topics of
the file, its counts are those that stand. Every feed is read once a night. Its items are kept in `home/feeds.db`, so
one that has left the feed still counts, and none counts twice for a topic. An item belongs to the week in which it
says it was published, else to that in which it was first seen.

A week is told when it is over, its count is new or has changed, and every feed of the topic was followed all
through it: no item says zero only then. A feed is followed from its oldest item on, for as long as each reading
reaches back to the one before. So a feed that could not be read for a while leaves no gap if it is long enough,
and weeks that nobody knows of if it is not.

A feed that cannot be read does not stop the night: it is counted, and named on stderr. Not covered: an item whose
date changes keeps its first one; a feed that keeps one old item on top looks longer than it is; logins.
"""

from __future__ import annotations

import calendar
import hashlib
import io
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import feedparser
import httpx
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from nightshift.contracts import INDICATORS
from nightshift.contracts.indicators import known, last_complete_week, monday, week_of, weeks_after
from nightshift.errors import LakeError, SettingsError, SourceError
from nightshift.lake import Lake
from nightshift.settings import Settings
from nightshift.sources import DayBatch

FIGURE = "policy_change_frequency"
MAX_BYTES = 5 * 2**20  # of a feed; most have a tenth of one MiB
SECONDS_TO_ANSWER, SECONDS_IN_ALL = 10.0, 30.0  # of one feed
AT_ONCE = 8  # feeds
MAX_REDIRECTS = 5
MOST_WEEKS = 260  # that are told of a topic; no window of the features is longer
LONGEST_TOPIC = INDICATORS.column("topic").max_length or 0
ENDINGS = (b"</rss>", b"</feed>", b"</rdf:RDF>")

TABLES = """
CREATE TABLE IF NOT EXISTS items (  -- times are seconds since the epoch
    topic TEXT NOT NULL, key TEXT NOT NULL, published INTEGER NOT NULL, first_seen INTEGER NOT NULL,
    PRIMARY KEY (topic, key)
);
CREATE TABLE IF NOT EXISTS followed (  -- a span of time in which no item of a feed was missed
    url TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, items INTEGER NOT NULL,  -- at `until`
    PRIMARY KEY (url, since)
);
"""


@dataclass(frozen=True)
class Item:
    """One item of a feed. `key`: what tells it from others; `published`: seconds since the epoch."""

    key: str
    published: int


class UnreadableFeed(Exception):
    """Why a feed could not be read."""


class Feeds:
    """The feeds of `settings.feeds`. They are read at the first `read`, once in the life of this object.

    clock: seconds since the epoch, now; by it an item is new and a feed was followed.
    """

    name = "feeds"

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._feeds = read_feeds_file(settings.feeds)
        self._database = settings.home / "feeds.db"
        self._lake = Lake(settings.lake_dir)
        self._collected = False

    def first_day(self) -> date:
        """The day of the oldest item. Raises SourceError if there is none."""
        day = self.next_day(date.min)
        if day is None:
            raise SourceError("feeds: no item was collected yet")
        return day

    def next_day(self, after: date) -> date | None:
        """The first day later than `after` with an item. It never decides which night is next."""
        start = _seconds(after + timedelta(days=1))
        with self._open() as database:
            (found,) = database.execute(
                "SELECT min(published) FROM items WHERE published >= ?", [start]
            ).fetchone()
        return None if found is None else datetime.fromtimestamp(found, UTC).date()

    def read(self, day: date) -> DayBatch:
        """The weeks over by the end of `day` whose count is not what published and staged days have told.

        counts: feeds that were read just now.
        """
        counts = {"read": 0, "kept": 0} if self._collected else self._collect()
        self._collected = True
        told = self._told(day)
        with self._open() as database:
            rows = [
                {"topic": topic, "week": week, FIGURE: float(count)}
                for topic, urls in self._feeds.items()
                for week, count in _counts(database, topic, urls, last_complete_week(day)).items()
                if told.get((topic, week)) != count
            ]
        return DayBatch(day=day, tables={INDICATORS.name: INDICATORS.table(rows)}, counts=counts)

    def _collect(self) -> dict[str, int]:
        """Read every feed and keep its items; counts of the feeds."""
        urls = sorted({url for urls in self._feeds.values() for url in urls})
        now = int(self._clock())
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = dict(zip(urls, pool.map(partial(_read_or_reason, now=now), urls), strict=True))
        unreadable = {url: reason for url, reason in found.items() if isinstance(reason, UnreadableFeed)}
        with self._open() as database:
            for url, items in found.items():
                if not isinstance(items, UnreadableFeed):
                    topics = [topic for topic, urls in self._feeds.items() if url in urls]
                    _keep(database, url, topics, items, now)
        for url, reason in unreadable.items():
            print(f"feed {url}: {reason}; its topics' weeks wait until it can be read", file=sys.stderr)
        counts = {"read": len(urls), "kept": len(urls) - len(unreadable)}
        return {**counts, "unreadable": len(unreadable)} if unreadable else counts

    def _told(self, day: date) -> dict[tuple[str, str], float]:
        """(topic, week) → count, by the published days and those staged before `day`."""
        days = self._lake.days()
        parts = [self._lake.read(INDICATORS.name, days[0], days[-1]).drop_columns(["day"])] if days else []
        for staged in (staged for staged in self._lake.staged_days() if staged < day):
            parts.append(self._lake.staged(staged).tables.get(INDICATORS.name, INDICATORS.table([])))
        rows = pa.concat_tables([INDICATORS.table([]), *parts])
        mine = rows.filter(pc.is_in(rows["topic"], value_set=pa.array(list(self._feeds), pa.string())))
        figures = known(mine)
        pairs = zip(figures["topic"], figures["week"], strict=True)
        return dict(zip(pairs, figures[FIGURE], strict=True))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The database, for one transaction. Raises LakeError if it cannot be read or written."""
        self._database.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self._database, timeout=30)) as database, database:
                database.execute("PRAGMA journal_mode=WAL")
                database.executescript(TABLES)
                yield database
        except sqlite3.Error as error:
            raise LakeError(
                f"{self._database}: cannot be read or written ({error}); nothing was kept"
            ) from error


def read_feeds_file(path: Path | None) -> dict[str, list[str]]:
    """Topic → addresses of its feeds.

    Raises:
        SettingsError: it is not set, cannot be read, or is not of that form; names the topic and the address.
    """
    if path is None:
        raise SettingsError(
            "source feeds: NIGHTSHIFT_FEEDS is not set; set it to a YAML file, topic: [addresses]"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); correct NIGHTSHIFT_FEEDS") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not YAML in UTF-8 ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not content:
        raise SettingsError(f"{path}: no topics; write one a line, topic: [addresses of its feeds]")
    for topic, urls in content.items():
        if not isinstance(topic, str) or not 0 < len(topic) <= LONGEST_TOPIC:
            raise SettingsError(f"{path}: {topic!r} is no topic: a text of up to {LONGEST_TOPIC} characters")
        if not isinstance(urls, list) or not urls:
            raise SettingsError(f"{path}: topic {topic!r}: {urls!r} is not a list of addresses")
        for url in urls:
            if not _is_web_address(url):
                raise SettingsError(f"{path}: topic {topic!r}: {url!r} is not an address http(s)://host/…")
    return {topic: list(dict.fromkeys(urls)) for topic, urls in content.items()}


def _is_web_address(url: Any) -> bool:
    try:
        parts = httpx.URL(url)
    except (TypeError, httpx.InvalidURL):
        return False
    return parts.scheme in ("http", "https") and bool(parts.host)


def _read_or_reason(url: str, now: int) -> list[Item] | UnreadableFeed:
    try:
        return items_of(*fetch(url), now)
    except UnreadableFeed as error:
        return error


def fetch(url: str) -> tuple[bytes, str]:
    """(content, content type) of a web address.

    Raises:
        UnreadableFeed: no answer in time, an error, too long, or it leads elsewhere than to http(s).
    """
    deadline = time.monotonic() + SECONDS_IN_ALL
    content = bytearray()
    try:
        with (
            httpx.Client(
                follow_redirects=True, max_redirects=MAX_REDIRECTS, timeout=SECONDS_TO_ANSWER
            ) as client,
            client.stream("GET", url, headers={"User-Agent": "nightshift"}) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise UnreadableFeed(f"it answers {answer.status_code} {answer.reason_phrase}".rstrip())
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise UnreadableFeed(f"it is longer than {MAX_BYTES // 2**20} MiB")
                if time.monotonic() > deadline:
                    raise UnreadableFeed(f"it was not complete after {SECONDS_IN_ALL:.0f} s")
            return bytes(content), answer.headers.get("content-type", "")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreadableFeed(f"{type(error).__name__} {' '.join(str(error).split())}".rstrip()) from error


def items_of(content: bytes, content_type: str, now: int) -> list[Item]:
    """The items of a feed; published now where they do not say when, or say that they will be.

    Small errors of form are forgiven, as feed readers do, if the feed is there to its end.

    Raises:
        UnreadableFeed: it is no feed, or cut short.
    """
    # A stream: feedparser would take text for an address or a file's name.
    headers = {"content-type": content_type}
    feed = feedparser.parse(
        io.BytesIO(content), response_headers=headers, resolve_relative_uris=False, sanitize_html=False
    )
    reason = " ".join(str(feed.get("bozo_exception", "")).split())
    if not feed.get("version"):
        raise UnreadableFeed(f"it is no RSS or Atom feed {f'({reason})' if reason else ''}".rstrip())
    malformed = feed.bozo and not isinstance(
        feed.bozo_exception, feedparser.CharacterEncodingOverride | feedparser.NonXMLContentType
    )
    if malformed and not content.rstrip().endswith(ENDINGS):
        raise UnreadableFeed(f"it is cut short ({reason})")
    return [Item(_key(entry), min(_published(entry) or now, now)) for entry in feed.entries]


def _key(entry: Any) -> str:
    """A digest of the item's id, else its link, else what it says: short, and fit for a database."""
    said = "\n".join(entry.get(part) or "" for part in ("title", "published", "summary"))
    text = entry.get("id") or entry.get("link") or said
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _published(entry: Any) -> int | None:
    """Seconds since the epoch, or None if the item does not say, or says what is no date since 1970."""
    told = entry.get("published_parsed") or entry.get("updated_parsed")
    try:
        seconds = calendar.timegm(told) if told else 0
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None


def _keep(database: sqlite3.Connection, url: str, topics: list[str], items: list[Item], now: int) -> None:
    """Keep a feed's items and how long it was followed."""
    rows = [(topic, item.key, item.published, now) for topic in topics for item in items]
    database.executemany("INSERT OR IGNORE INTO items VALUES (?, ?, ?, ?)", rows)
    find = "SELECT published FROM items WHERE topic = ? AND key = ?"  # an undated item keeps its first day
    oldest = min((database.execute(find, [topics[0], item.key]).fetchone()[0] for item in items), default=now)
    last = database.execute(
        "SELECT since, until, items FROM followed WHERE url = ? ORDER BY until DESC LIMIT 1", [url]
    ).fetchone()
    # A feed that was empty the last time has dropped nothing since, however new its oldest item is.
    unbroken = last is not None and (oldest <= last[1] or last[2] == 0 or not items)
    since = last[0] if unbroken else oldest
    database.execute("INSERT OR REPLACE INTO followed VALUES (?, ?, ?, ?)", [url, since, now, len(items)])


def _counts(database: sqlite3.Connection, topic: str, urls: Iterable[str], newest: str) -> dict[str, int]:
    """Week → items of the topic, for the weeks up to `newest` in which every one of its feeds was followed."""
    spans = [
        database.execute("SELECT since, until FROM followed WHERE url = ?", [url]).fetchall() for url in urls
    ]
    if not all(spans):
        return {}
    followed_since = max(min(since for since, _ in span) for span in spans)
    week = max(
        weeks_after(newest, 1 - MOST_WEEKS), week_of(datetime.fromtimestamp(followed_since, UTC).date())
    )
    counts = {}
    while week <= newest:
        start, end = _seconds(monday(week)), _seconds(monday(weeks_after(week, 1)))
        if all(any(since <= start and end <= until for since, until in span) for span in spans):
            (counts[week],) = database.execute(
                "SELECT count(*) FROM items WHERE topic = ? AND published >= ? AND published < ?",
                [topic, start, end],
            ).fetchone()
        week = weeks_after(week, 1)
    return counts


def _seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
