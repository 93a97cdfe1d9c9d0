"""Notices that a client hung up while its answer is still being waited for.

Once a stream has begun, Starlette listens for that. Before, nobody does: an answer that waits in line, or that is told
whole, would be made for no one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import ContextVar
from typing import TypeVar

from starlette.types import ASGIApp, Receive, Scope, Send

T = TypeVar("T")
_RECEIVE: ContextVar[Receive] = ContextVar("receive")


class HungUpError(Exception):
    """The client is gone: nobody is there to be told anything."""


class Line:
    """ASGI middleware: a handler may listen whether its client is still there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        token = _RECEIVE.set(receive)
        try:
            await self.app(scope, receive, send)
        finally:
            _RECEIVE.reset(token)


async def unless_hung_up(waited_for: Awaitable[T]) -> T:
    """What is waited for. Raises HungUpError, and cancels it, if the client goes first. The body has been read."""
    work, gone = asyncio.ensure_future(waited_for), asyncio.ensure_future(_gone(_RECEIVE.get()))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise HungUpError
        return work.result()
    finally:
        gone.cancel()
        work.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
