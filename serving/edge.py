"""What a request meets around the handlers: the body limit, JSON only, error bodies, no third parties.

Every error body is `{"error": one line, "detail": [{"loc": […], "msg": …, "type": …}]}`, as pydantic's are.
Not covered here: authentication and rate limits; the service listens on loopback unless told otherwise.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 1 << 20  # 1,000 feedback events of full-length ids are about 0.7 MiB
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
    """ASGI middleware: refuses a body that is too large (413) or not JSON (415) before anyone parses it."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["method"] == "POST":
            await self._post(scope, receive, send)
        else:
            await self.app(scope, receive, _with_page_policy(send))

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
            if kind != "application/json":  # Bento would also parse forms, arrow and pickle
                raise Problem(415, f"the body must be application/json, not {kind[:80]!r}")
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
