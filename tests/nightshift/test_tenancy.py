"""Who has the card: real processes, real locks."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from nightshift.errors import SettingsError
from nightshift.settings import PROJECT, Settings
from nightshift.tenancy import Tenant, card, leased, wanting

HOLDER = """
import sys, time
from nightshift.settings import settings
from nightshift.tenancy import card
with card(settings(), "training"):
    print("has it", flush=True)
    time.sleep(float(sys.argv[1]))
print("let go", flush=True)
"""
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path, language_lease="always")  # type: ignore[call-arg]


class Holder:
    """A process that wants the card and then has it for a while."""

    def __init__(self, config: Settings, seconds: float, inside: Sequence[str] = ()) -> None:
        variables = {"NIGHTSHIFT_HOME": str(config.home), "NIGHTSHIFT_LANGUAGE_LEASE": "always"}
        self.process = subprocess.Popen(
            [*inside, sys.executable, "-c", HOLDER, str(seconds)], env={**os.environ, **variables}, cwd=PROJECT,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def holder(config: Settings) -> Iterator[Holder]:
    holder = Holder(config, 600)
    yield holder
    holder.kill()


def until(true: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_tenant_gives_way_to_a_process_that_wants_the_card(config: Settings, holder: Holder) -> None:
    tenant = Tenant(config)
    if tenant.take():  # else the process came first
        until(lambda: tenant.wanted() == "training")
        tenant.release()
    assert holder.says() == "has it"
    assert not tenant.take() and not tenant.holds


def test_a_killed_trainer_holds_nothing_and_wants_nothing(config: Settings, holder: Holder) -> None:
    assert holder.says() == "has it"
    tenant = Tenant(config)
    assert tenant.wanted() == "training" and not tenant.take()
    holder.kill()
    assert tenant.take() and tenant.wanted() is None
    assert not list((config.home / "card").glob("wanted-*")), "the note of the dead is removed"


def test_a_trainer_killed_while_it_waits_wants_nothing(config: Settings, holder: Holder) -> None:
    tenant = Tenant(config)
    until(tenant.take)
    until(lambda: tenant.wanted() is not None)
    holder.kill()
    assert tenant.wanted() is None and tenant.holds


def test_the_card_is_free_when_training_is_done(config: Settings) -> None:
    holder = Holder(config, 0)
    assert (holder.says(), holder.says()) == ("has it", "let go")
    assert holder.process.wait() == 0
    assert Tenant(config).take()


def test_a_note_that_nobody_keeps_says_nothing_and_is_removed(config: Settings) -> None:
    folder = config.home / "card"
    folder.mkdir()
    (folder / "wanted-x.json").write_text(json.dumps({"who": "somebody", "since": 1.0, "reason": "long ago"}))
    assert Tenant(config).wanted() is None
    assert not list(folder.glob("wanted-*"))


def test_containers_that_share_the_folder_share_the_card(config: Settings) -> None:
    """Two processes that are both process 1, each of its own namespace: what a container is to the lease."""
    which = [*CONTAINER, sys.executable, "-c", "import os; print(os.getpid())"]
    made = subprocess.run(which, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this machine lets us make no process namespace: {made.stderr.strip()}")
    assert made.stdout.strip() == "1"
    first = Holder(config, 600, CONTAINER)
    second = None
    try:
        assert first.says() == "has it"
        tenant = Tenant(config)
        assert not tenant.take() and tenant.wanted() == "training"
        second = Holder(config, 0, CONTAINER)
        until(lambda: len(list((config.home / "card").glob("wanted-*"))) == 2)
        assert not select.select([second.process.stdout], [], [], 1)[0], "one tenant at a time"
        first.kill()
        assert (second.says(), second.says()) == ("has it", "let go")
        second.process.wait()
        assert tenant.take() and tenant.wanted() is None
    finally:
        first.kill()
        if second is not None:
            second.kill()


def test_what_a_process_wants_itself_does_not_make_it_give_way(config: Settings) -> None:
    with wanting(config, "trial of version 3"):
        assert Tenant(config).wanted() is None


def test_nobody_waits_for_ever(config: Settings) -> None:
    tenant, said = Tenant(config), []
    assert tenant.take()
    with (
        pytest.raises(SettingsError, match="not given up within"),
        card(config, "training", say=said.append, patience=0.3),
    ):
        raise AssertionError("the card is taken")
    assert len(said) == 1 and "waiting for the card" in said[0]
    assert not list((config.home / "card").glob("wanted-*")), "who gave up wants nothing"


def test_waiting_for_another_with_a_note_takes_no_patience(config: Settings) -> None:
    holder, said = Holder(config, 1.5), list[str]()
    try:
        assert holder.says() == "has it"
        began = time.monotonic()
        with card(config, "the gate", say=said.append, patience=0.3):
            assert time.monotonic() - began > 0.5
        assert said == ["waiting for the card: training comes first"]
    finally:
        holder.kill()


def test_of_two_that_wait_for_a_service_that_is_stuck_the_earlier_gives_up_first(config: Settings) -> None:
    service = Tenant(config)
    assert service.take()
    with wanting(config, "the gate") as since:
        holder = Holder(config, 600)
        try:
            until(lambda: service.wanted() == "training")
            tenant = Tenant(config)
            assert tenant.ahead(since) is None and tenant.ahead(time.time()) == "training"
            service.release()
            assert holder.says() == "has it"
            assert tenant.ahead(since) == "training", "it came later, and has the card"
        finally:
            holder.kill()


def test_only_one_of_many_has_the_card_at_a_time(config: Settings) -> None:
    inside, most = [0], [0]

    def train() -> None:
        with card(config, "training"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.05)
            inside[0] -= 1

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


@pytest.mark.parametrize(
    ("lease", "device", "asked"), [("auto", "cpu", False), ("always", "cpu", True), ("never", "cuda", False)]
)
def test_a_lease_is_asked_for_where_the_settings_say(
    tmp_path: Path, lease: str, device: str, asked: bool
) -> None:
    config = Settings(_env_file=None, home=tmp_path, language_lease=lease, language_device=device)  # type: ignore[call-arg, arg-type]
    assert leased(config) is asked
    with card(config, "training"):
        assert (config.home / "card").exists() is asked
