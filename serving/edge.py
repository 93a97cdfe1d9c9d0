"""What a request meets around the handlers: known host names, no other site's pages, JSON only, a body limit.

A page of another site can make a browser on this machine call the service. Its POST of JSON would need a
preflight, which is never granted; so a body without the header is refused. A name that the page's owner points
here (DNS rebinding) would make the two one site; so only known names are answered.
Every error body is `{"error": one line, "detail": [{"loc": […], "msg": …, "type": …}]}`, as pydantic's are.
Not covered here: authentication and rate limits; the service listens on loopback unless told otherwise.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nightshift.settings import Settings, settings

MAX_BODY_BYTES = 1 << 20  # 1,000 feedback events of full-length ids are about 0.7 MiB
MACHINES = frozenset({"/livez", "/readyz", "/metrics"})  # asked by any name; they tell nothing about anybody
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:@/\[\]]+)(:\d{1,5})?")
# Bento's page loads a tag manager from another site; its own scripts and styles are served by Bento itself.
_PAGE_POLICY = "default-src 'self' 'unsafe-inline' data:"


class Problem(Exception):
    """A request that cannot be answered: the status, one line, and where it applies the field."""

    def __init__(self, status: int, error: str, loc: tuple[str | int, ...] = (), msg: str = "") -> None:
        super().__init__(error)
        self.status, self.error = status, error
        self.detail = [{"loc": list(loc), "msg": msg or error, "type": "value_error"}] if loc else []

    def response(self) -> JSONResponse:
        body: dict[str, Any] = {"error": self.error, "detail": self.detail}
        return JSONResponse(body, status_code=self.status)


class Edge:
    """ASGI middleware: refuses an unknown host or another site's page (403), and a body that is too large (413)
    or not JSON (415) before anyone parses it."""

    def __init__(
        self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES, hosts: frozenset[str] | None = None
    ) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.hosts = hosts if hosts is not None else host_names(settings())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            if scope["path"] not in MACHINES:
                check_site(Headers(scope=scope), self.hosts)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        if scope["method"] == "POST":
            await self._post(scope, receive, send)
        else:
            await self.app(scope, receive, _with_page_policy(send))

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":  # Bento would also parse forms, arrow and pickle
                given = f"not {kind[:80]!r}" if kind else "and the header content-type must say so"
                raise Problem(415, f"the body must be application/json, {given}")
            length = headers.get("content-length", "")
            if length.isdecimal() and int(length) > self.max_bytes:
                raise self._too_large()
            body = await self._read(receive)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        if body is not None:
            await self.app(scope, _replay(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body, counted as it comes; None if the client went away."""
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > self.max_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self) -> Problem:
        return Problem(413, f"the body is larger than {self.max_bytes} bytes; send several smaller ones")


def host_names(config: Settings) -> frozenset[str]:
    """The names under which the service may be asked, in lower case; IPv6 addresses in brackets."""
    further = [name.strip() for name in [config.host, *config.serving_hosts.split(",")]]
    bare = {name.strip("[]").lower() for name in further if name}
    return frozenset({"127.0.0.1", "localhost", "[::1]"} | {f"[{n}]" if ":" in n else n for n in bare})


def check_site(headers: Headers, hosts: frozenset[str]) -> None:
    """Raises Problem (403) if the request came for an unknown host, or from a page of another site."""
    asked = headers.getlist("host")
    host = asked[0].lower() if len(asked) == 1 else ""
    parts = _HOST.fullmatch(host)
    if parts is None or parts[1] not in hosts:
        raise Problem(
            403, f"no such host here: {host[:80]!r}; its name can be added with NIGHTSHIFT_SERVING_HOSTS"
        )
    # An origin is scheme://host:port, or `null`, which no host is.
    if any(origin.partition("://")[2].lower() != host for origin in headers.getlist("origin")):
        raise Problem(403, "cross-site request refused")


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` as it was before the body was read."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_page_policy(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["content-security-policy"] = _PAGE_POLICY
        await send(message)

    return wrapped


class NoBadInput(logging.Filter):
    """Keeps bad requests out of the log: Bento writes a traceback for each, so a client could fill the disk."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        return not isinstance(error, ValidationError)
