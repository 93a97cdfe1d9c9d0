"""One feed of the web, fetched and parsed in a process of its own that can be killed.

What a server answers may never end, and what it sends may keep a parser busy for minutes, inside one call that no
thread can interrupt. So `read` starts this file as a program, waits for so long and no longer, and takes nothing
from it but keys and dates. Nothing of Nightshift is imported here: the program starts in a fifth of a second.

A redirect may lead to another host, but into the own network (loopback, private, link-local) only if the feed's own
host is there. Not covered: a name that the web's own servers point elsewhere between this check and the connection;
behind a proxy, a name that only the proxy can look up.
"""

from __future__ import annotations

import calendar
import hashlib
import io
import ipaddress
import json
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import feedparser
import httpx

SECONDS_IN_ALL, SECONDS_TO_ANSWER = 30.0, 10.0  # of one feed
SECONDS_ALONE = 60  # then the program ends by itself, should whoever started it be gone
MEMORY = 2**30  # of the program; the longest feeds take a seventh
MAX_BYTES = 5 * 2**20  # of a feed; most have a tenth of one MiB
MOST_ITEMS = 20_000
MAX_REDIRECTS = 5
LONGEST_REASON = 200
ENDINGS = (b"</rss>", b"</feed>", b"</rdf:RDF>")


@dataclass(frozen=True)
class Item:
    """One item of a feed. `key`: what tells it from others; `published`: seconds since the epoch."""

    key: str
    published: int


class UnreadableFeed(Exception):
    """Why a feed could not be read."""


def is_web_address(url: Any) -> bool:
    """Whether it is http(s)://host/… without a user or a password in it."""
    try:
        parts = httpx.URL(url)
    except (TypeError, httpx.InvalidURL):
        return False
    return parts.scheme in ("http", "https") and bool(parts.host) and not parts.userinfo


def shown(url: Any) -> str:
    """An address as it may be printed: without user, password and query, which may be secret."""
    try:
        parts = httpx.URL(url)
    except (TypeError, httpx.InvalidURL):
        return str(url).rpartition("@")[2].partition("?")[0]
    return f"{parts.scheme}://{parts.netloc.decode()}{parts.path}"


def read(url: str, now: int) -> list[Item]:
    """The items of the feed at `url`.

    Raises:
        UnreadableFeed: no answer in time, an error, no feed, too long, or more than the program may take.
    """
    # By its path, as its package would import half of Nightshift; the address goes where `ps` does not show it.
    command = [sys.executable, "-P", __file__]
    request = json.dumps({"url": url, "now": now})
    try:
        done = subprocess.run(
            command,
            input=request,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS_IN_ALL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnreadableFeed(f"it could not be read in {SECONDS_IN_ALL:g} s") from error
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        reason = _short(done.stderr.strip().rpartition("\n")[2])
        raise UnreadableFeed(f"reading it ended with {done.returncode} {reason}".rstrip()) from error
    if "unreadable" in found:
        raise UnreadableFeed(found["unreadable"])
    return [Item(key, published) for key, published in found["items"]]


def fetch(url: str) -> tuple[bytes, str]:
    """(content, content type) of a web address.

    Raises:
        UnreadableFeed: an error, too long, compressed, or it leads where no feed should.
    """
    try:
        with httpx.Client(timeout=SECONDS_TO_ANSWER) as client:
            # Compressed, a few hundred bytes could become gigabytes before anybody has counted them.
            headers = {"User-Agent": "nightshift", "Accept-Encoding": "identity"}
            request = client.build_request("GET", url, headers=headers)
            for _ in range(MAX_REDIRECTS + 1):
                answer = client.send(request, stream=True)
                try:
                    if answer.next_request is None:
                        return _content(answer), answer.headers.get("content-type", "")
                finally:
                    answer.close()
                request = answer.next_request
                _check_redirect(request.url, httpx.URL(url))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UnreadableFeed(_short(f"{type(error).__name__} {error}")) from error
    raise UnreadableFeed(f"it leads on more than {MAX_REDIRECTS} times")


def _content(answer: httpx.Response) -> bytes:
    if answer.status_code != httpx.codes.OK:
        raise UnreadableFeed(_short(f"it answers {answer.status_code} {answer.reason_phrase}"))
    encoding = answer.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnreadableFeed(_short(f"it is sent as {encoding}, though only identity was asked for"))
    content = bytearray()
    for chunk in answer.iter_raw():
        content += chunk
        if len(content) > MAX_BYTES:
            raise UnreadableFeed(f"it is longer than {MAX_BYTES // 2**20} MiB")
    return bytes(content)


def _check_redirect(target: httpx.URL, own: httpx.URL) -> None:
    if not is_web_address(target):
        raise UnreadableFeed(_short(f"it leads to {shown(target)}, which is no plain address on the web"))
    if is_inside(target) and not is_inside(own):
        raise UnreadableFeed(_short(f"it leads to {shown(target)}, inside the own network"))


def is_inside(url: httpx.URL) -> bool:
    """Whether its host has an address that is not of the public internet. False if it has none at all."""
    try:
        found = socket.getaddrinfo(url.raw_host.decode(), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # connecting to it will fail and say so
    addresses = [ipaddress.ip_address(place[0]) for *_, place in found]
    plain = [getattr(address, "ipv4_mapped", None) or address for address in addresses]
    return any(not address.is_global or address.is_multicast for address in plain)


def items_of(content: bytes, content_type: str, now: int) -> list[Item]:
    """The items of a feed; published now where they do not say when, or say that they will be.

    Small errors of form are forgiven, as feed readers do, if the feed is there to its end.

    Raises:
        UnreadableFeed: it is no feed, cut short, or has too many items.
    """
    # A stream: feedparser would take text for an address or a file's name.
    headers = {"content-type": content_type}
    feed = feedparser.parse(
        io.BytesIO(content), response_headers=headers, resolve_relative_uris=False, sanitize_html=False
    )
    reason = _short(str(feed.get("bozo_exception", "")))
    if not feed.get("version"):
        raise UnreadableFeed(f"it is no RSS or Atom feed {f'({reason})' if reason else ''}".rstrip())
    malformed = feed.bozo and not isinstance(
        feed.bozo_exception, feedparser.CharacterEncodingOverride | feedparser.NonXMLContentType
    )
    if malformed and not content.rstrip().endswith(ENDINGS):
        raise UnreadableFeed(f"it is cut short ({reason})")
    if len(feed.entries) > MOST_ITEMS:
        raise UnreadableFeed(f"it has more than {MOST_ITEMS:,} items")
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


def _short(text: str) -> str:
    """Somebody else's words on one line, fit for a terminal."""
    line = " ".join(text.split())[:LONGEST_REASON]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def limit_this_process() -> None:
    """Bound memory and time by the kernel, which also ends what no longer comes back to Python."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    memory = MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS_ALONE)


def main() -> None:
    """Read {"url", "now"} from stdin, print {"items": [[key, published], ...]} or {"unreadable": why}."""
    limit_this_process()
    request = json.load(sys.stdin)
    told: dict[str, Any]
    try:
        items = items_of(*fetch(request["url"]), request["now"])
        told = {"items": [[item.key, item.published] for item in items]}
    except UnreadableFeed as error:
        told = {"unreadable": str(error)}
    except MemoryError:
        told = {"unreadable": f"it takes more than {MEMORY // 2**30} GiB of memory to read"}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
