"""Policy changes counted from RSS and Atom feeds: how many items a topic's feeds had in each week.

`settings.feeds` is a YAML file, each topic with its feeds:

    배터리 재활용:
      - https://ministry.example/energy.rss
    robotics: [https://standards.example/robots.atom, https://law.example/machines.rss]

It joins the source that a night takes its day from, and tells `policy_change_frequency` alone. For the topics of the
file its counts are those that stand: what others tell of that figure is left out, in every week. Every feed is read
once a night. Its items are kept in the store's `feeds.db`, so one that has left the feed still counts, and none counts
twice for a topic. An item belongs to the week in which it says it was published, else to that in which it was first
seen.

A week is told when it is over, its count is new or has changed, and every feed of the topic was followed all
through it: no item says zero only then. A feed is followed from its oldest item on, for as long as each reading
reaches back to the one before. So a feed that could not be read for a while leaves no gap if it is long enough,
and weeks that nobody knows of if it is not.

A feed that cannot be read does not stop the night: it is counted, and named on stderr. Not covered: an item whose
date changes keeps its first one; a feed that keeps one old item on top looks longer than it is; logins. Where a night
takes in earlier days too, these count each item from the day on which it says it was published, so also one that the
feed had only later.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from nightshift.contracts import INDICATORS
from nightshift.contracts.indicators import POLICY, known, last_complete_week, monday, week_of, weeks_after
from nightshift.errors import LakeError, SettingsError, SourceError
from nightshift.lake import open_lake
from nightshift.settings import Settings
from nightshift.sources import DayBatch, feed
from nightshift.sources.feed import Item, UnreadableFeed, is_web_address, shown
from nightshift.store import shared

DATABASE = "feeds.db"
AT_ONCE = 4  # feeds, each in a process of its own
MOST_WEEKS = 260  # that are told of a topic; no window of the features is longer
LONGEST_TOPIC = INDICATORS.column("topic").max_length or 0

SCHEMA = 1  # of feeds.db; kept in it as its user_version
TABLES = """
CREATE TABLE IF NOT EXISTS items (  -- times are seconds since the epoch
    topic TEXT NOT NULL, key TEXT NOT NULL, published INTEGER NOT NULL, PRIMARY KEY (topic, key)
);
CREATE TABLE IF NOT EXISTS followed (  -- a span of time in which no item of a feed was missed
    url TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL, items INTEGER NOT NULL,  -- at `until`
    PRIMARY KEY (url, since)
);
"""


class Feeds:
    """The feeds of `settings.feeds`. They are read at the first `read`, once in the life of this object.

    clock: seconds since the epoch, now; by it an item is new and a feed was followed.
    """

    name = "feeds"

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._feeds = read_feeds_file(settings.feeds)
        self._store = shared(settings)
        self._lake = open_lake(settings)
        self._collected = False
        self._of_staged_days: dict[date, pa.Table] = {}

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
                {"topic": topic, "week": week, POLICY: float(count)}
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
            print(
                f"feed {shown(url)}: {reason}; its topics' weeks wait until it can be read", file=sys.stderr
            )
        counts = {"read": len(urls), "kept": len(urls) - len(unreadable)}
        return {**counts, "unreadable": len(unreadable)} if unreadable else counts

    def _told(self, day: date) -> dict[tuple[str, str], float]:
        """(topic, week) → count, by the published days and those staged before `day`."""
        staged = (self._staged(earlier) for earlier in self._lake.staged_days() if earlier < day)
        figures = known(pa.concat_tables([self._published, *staged]))
        pairs = zip(figures["topic"], figures["week"], strict=True)
        return dict(zip(pairs, figures[POLICY], strict=True))

    @cached_property
    def _published(self) -> pa.Table:
        """What the published days tell of the feeds' topics; no day is published while this object lives."""
        days = self._lake.days()
        rows = self._lake.read(INDICATORS.name, days[0], days[-1]).drop_columns(["day"]) if days else None
        return self._mine(rows)

    def _staged(self, day: date) -> pa.Table:
        """What a staged day tells of the feeds' topics; read once, as days are staged in order."""
        if day not in self._of_staged_days:
            rows = self._lake.staged(day).tables.get(INDICATORS.name)
            self._of_staged_days[day] = self._mine(rows)
        return self._of_staged_days[day]

    def _mine(self, rows: pa.Table | None) -> pa.Table:
        if rows is None:
            return INDICATORS.table([])
        return rows.filter(pc.is_in(rows["topic"], value_set=pa.array(list(self._feeds), pa.string())))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The database, for one transaction. Raises LakeError if it cannot be read or written."""
        try:
            with (
                self._store.changing(DATABASE) as path,
                closing(sqlite3.connect(path, timeout=30)) as database,
                database,
            ):
                database.execute("PRAGMA journal_mode=WAL")
                _bring_up(database, f"{self._store.where}/{DATABASE}")
                database.executescript(TABLES)
                yield database
        except sqlite3.Error as error:
            raise LakeError(
                f"{self._store.where}/{DATABASE}: cannot be read or written ({error}); nothing was kept"
            ) from error


def _bring_up(database: sqlite3.Connection, where: str) -> None:
    """Bring an older database to the present schema. Raises LakeError if it is of a newer one."""
    (found,) = database.execute("PRAGMA user_version").fetchone()
    if found > SCHEMA:
        raise LakeError(
            f"{where}: is of schema {found}, made by a newer Nightshift; this one knows {SCHEMA}: run that version, or "
            "restore a backup made before"
        )
    if found < SCHEMA:
        database.execute("BEGIN IMMEDIATE")
        columns = [row[1] for row in database.execute("PRAGMA table_info(items)")]
        if "first_seen" in columns:  # before the schemas were counted; nothing reads it
            database.execute("ALTER TABLE items DROP COLUMN first_seen")
        database.execute(f"PRAGMA user_version = {SCHEMA}")
        database.commit()


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
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 ({error})") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)  # the error's own text would quote addresses
        where = f" in line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}: not YAML{where} ({getattr(error, 'problem', None)})") from error
    if not isinstance(content, dict) or not content:
        raise SettingsError(f"{path}: no topics; write one a line, topic: [addresses of its feeds]")
    for topic, urls in content.items():
        if not isinstance(topic, str) or not 0 < len(topic) <= LONGEST_TOPIC:
            raise SettingsError(f"{path}: {topic!r} is no topic: a text of up to {LONGEST_TOPIC} characters")
        if not isinstance(urls, list) or not urls:
            raise SettingsError(f"{path}: topic {topic!r}: {urls!r} is not a list of addresses")
        for url in urls:
            if not is_web_address(url):
                named = repr(shown(url) if isinstance(url, str) else url)
                form = "http(s)://host/… without user and password"
                raise SettingsError(f"{path}: topic {topic!r}: {named} is not an address {form}")
    return {topic: list(dict.fromkeys(urls)) for topic, urls in content.items()}


def _read_or_reason(url: str, now: int) -> list[Item] | UnreadableFeed:
    try:
        return feed.read(url, now)
    except UnreadableFeed as error:
        return error


def _keep(database: sqlite3.Connection, url: str, topics: list[str], items: list[Item], now: int) -> None:
    """Keep a feed's items and how long it was followed."""
    rows = [(topic, item.key, item.published) for topic in topics for item in items]
    database.executemany("INSERT OR IGNORE INTO items VALUES (?, ?, ?)", rows)
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
