"""One tenant of the card: an 8B model that is trained and the same one that is served do not fit 12 GB together.

The lease is a lock on a file under home, held by whoever has a model on the card; the kernel lets it go when its
holder dies. Who needs the card puts up a note (who, reason, since when), keeps a lock on that too, and waits for the
first one; the service, which is the one that can wait, reads the notes, unloads its model and lets go. A note whose
lock is free is of a process that lives no more, and says nothing. Locks and not process numbers: containers that share
the folder on one machine see one another's locks, and each has a process 1 of its own.

    training, exam, trial:   with card(settings, "training qlora@2026-09-28"): …      waits its turn
    the service:             tenant.take() … tenant.wanted() → unload, tenant.release() … tenant.take()

Not covered: processes of other programs, homes that share a card, and a home on a network's file system.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TextIO

from nightshift.errors import SettingsError
from nightshift.settings import Settings

POLL_SECONDS = 0.2
SAY_SECONDS = 30.0


def leased(settings: Settings) -> bool:
    """Whether the card has to be asked for: where language models run on CUDA, unless the settings say otherwise."""
    if settings.language_lease != "auto":
        return settings.language_lease == "always"
    if settings.language_device == "cpu":
        return False
    import torch

    return torch.cuda.is_available()


@contextmanager
def card(
    settings: Settings,
    reason: str,
    *,
    say: Callable[[str], None] = lambda line: None,
    patience: float = 900.0,
) -> Iterator[None]:
    """The card, from when the others have let go of it; at once where no lease is asked for.

    reason: what the service tells its clients meanwhile. say: told what is waited for.
    patience: seconds to wait at most for whoever has the card without a note, which is the service. Waiting for another
    process that has put up a note, one's turn in the night, does not count.

    Raises:
        SettingsError: nobody let go of it in that time.
    """
    if not leased(settings):
        yield
        return
    with wanting(settings, reason) as since:
        tenant = Tenant(settings)
        _wait(tenant, since, say, patience)
        try:
            yield
        finally:
            tenant.release()


@contextmanager
def wanting(settings: Settings, reason: str) -> Iterator[float]:
    """A note that this process wants the card, as long as it does; gives the time.time() at which it was put up."""
    since = time.time()
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    note = folder / f"wanted-{name}.json"
    with (folder / f"{name}.tmp").open("w") as handle:
        fcntl.flock(
            handle, fcntl.LOCK_EX
        )  # before it can be read as a note: without its lock it would be removed
        json.dump({"who": _me(), "reason": reason, "since": since}, handle)
        handle.flush()
        Path(handle.name).rename(note)
        try:
            yield since
        finally:
            note.unlink(missing_ok=True)


class Tenant:
    """Who has, or would have, a model on the card. For one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        self._folder = _folder(settings)
        self._held: TextIO | None = None

    @property
    def holds(self) -> bool:
        return self._held is not None

    def take(self) -> bool:
        """Whether the card is ours now; does not wait."""
        if self._held is not None:
            return True
        self._folder.mkdir(parents=True, exist_ok=True)
        handle = (self._folder / "lock").open("a")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            return False
        handle.truncate(0)
        handle.write(_me())
        handle.flush()
        self._held = handle
        return True

    def release(self) -> None:
        """Let go; nothing if it is not held."""
        if self._held is not None:
            self._held.close()
            self._held = None

    def wanted(self) -> str | None:
        """Why another process that lives wants the card, or None. Notes of the dead are removed."""
        return next((str(told["reason"]) for told in self._notes()), None)

    def ahead(self, since: float) -> str | None:
        """Why another process that lives has the card, or wanted it before `since`, by its note; None without one.

        Of two that wait, only the later one waits for the other: else both would wait for ever.
        """
        holder = self._holder()
        notes = (told for told in self._notes() if told["who"] == holder or told["since"] < since)
        return next((str(told["reason"]) for told in notes), None)

    def _holder(self) -> str | None:
        """Who took the card last."""
        try:
            return (self._folder / "lock").read_text()
        except OSError:  # nobody yet
            return None

    def _notes(self) -> Iterator[dict[str, Any]]:
        """The notes of other processes that live; those of the dead are removed."""
        for note in sorted(self._folder.glob("wanted-*.json")):
            try:
                with note.open() as handle:
                    told = json.load(handle)
                    if told["who"] == _me():
                        continue
                    if _locked(handle):
                        yield told
                    else:
                        note.unlink(missing_ok=True)
            except FileNotFoundError:  # taken down this moment
                continue


def _folder(settings: Settings) -> Path:
    return settings.home / "card"


def _locked(handle: TextIO) -> bool:
    """Whether another process that lives has a lock on this file."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False


def _me() -> str:
    """This process, by a name that no other has, in whatever container."""
    return _name_of(os.getpid())


@cache
def _name_of(pid: int) -> str:  # a fork has another number, and so a name of its own
    return f"{socket.gethostname()}-{pid}-{uuid.uuid4().hex[:12]}"


def _wait(tenant: Tenant, since: float, say: Callable[[str], None], patience: float) -> None:
    waited, before, said = 0.0, time.monotonic(), -math.inf
    while not tenant.take():
        now, ahead = time.monotonic(), tenant.ahead(since)
        waited += now - before if ahead is None else 0.0
        before = now
        if waited > patience:
            raise SettingsError(
                f"the card was not given up within {patience:.0f} s; is a language service of this home stuck? "
                "`nightshift status` shows it; NIGHTSHIFT_LANGUAGE_LEASE=never does without the lease"
            )
        if now - said > SAY_SECONDS:
            what = f"{ahead} comes first" if ahead else "the coach finishes its answer and unloads its model"
            say(f"waiting for the card: {what}")
            said = now
        time.sleep(POLL_SECONDS)
