"""Processes that share one training: the same batch for all, each its part, gradients added up (gloo, on CPUs).

The leader is the process that trains anyway; it starts the others, and they end with it. They meet through a file, so
that nothing listens but their own connections, on loopback. Under torchrun the processes are there already, and meet
where it says: `torchrun --nproc-per-node 2 -m training.run ncf --night …`. **NCCL, cards, and two machines with a
network between them have not been run.**

A process that ends takes its connections along, which the others notice at once; one that says nothing for SILENCE is
taken for dead. Either way the training ends with a TeamError.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nightshift.errors import SettingsError, TeamError
from nightshift.settings import PROJECT, Settings

if TYPE_CHECKING:
    from torch import Tensor

SILENCE = timedelta(minutes=15)  # the leader validates between epochs, and the others wait
STOP_SECONDS = 30


class Team:
    """rank: of this process, 0 leads. Alone, nothing is sent and nothing changes."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size, self.leads = rank, size, rank == 0

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes its sum over all processes, the same bits in each; one message for all of them."""
        if self.size > 1 and tensors:
            self._together(tensors, "all_reduce")

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor becomes the leader's."""
        if self.size > 1 and tensors:
            self._together(tensors, "broadcast")

    def told(self, value: Any) -> Any:
        """The leader's value, plain data, in every process."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        with _speaking_plainly():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def _together(self, tensors: Sequence[Tensor], how: str) -> None:
        import torch
        import torch.distributed as dist

        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        with _speaking_plainly():
            dist.all_reduce(flat) if how == "all_reduce" else dist.broadcast(flat, src=0)
        with torch.no_grad():
            for tensor, part in zip(tensors, flat.split([one.numel() for one in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))


ALONE = Team()


def under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def follows() -> bool:
    """Whether torchrun started this process to help another."""
    return under_torchrun() and os.environ["RANK"] != "0"


@contextmanager
def leading(config: Settings, *helper: str) -> Iterator[Team]:
    """The team that the settings, or torchrun, ask for; without either ALONE.

    helper: the module and arguments of the command that a further process runs, unless torchrun runs them.

    Raises:
        SettingsError: on a CUDA device, where nothing of it has been tried.
        TeamError: the others do not come.
    """
    size = int(os.environ["WORLD_SIZE"]) if under_torchrun() else config.train_processes
    if size == 1:
        yield ALONE
        return
    import torch

    if torch.cuda.is_available():
        raise SettingsError(
            f"{size} processes are to share a training: that is for CPUs; set NIGHTSHIFT_TRAIN_PROCESSES=1 here"
        )
    with TemporaryDirectory(prefix="nightshift-") as folder:
        meeting = "env://" if under_torchrun() else f"file://{folder}/meeting"
        helpers = [] if under_torchrun() else _start(config, helper, size, meeting)
        try:
            _await(helpers, Path(folder))
            with _joined(meeting, 0, size) as team:
                yield team
                team.told(None)  # no further work
                for one in helpers:
                    one.wait(STOP_SECONDS)
        finally:
            for one in helpers:
                one.kill()
                one.wait()


@contextmanager
def following() -> Iterator[Team]:
    """This process's place in the team that its surroundings name."""
    meeting = os.environ.get("NIGHTSHIFT_MEETING", "env://")
    if meeting.startswith("file://"):
        (Path(meeting.removeprefix("file://")).parent / f"here-{os.environ['RANK']}").touch()
    with _joined(meeting, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) as team:
        yield team


def _start(config: Settings, helper: Sequence[str], size: int, meeting: str) -> list[subprocess.Popen[bytes]]:
    surroundings = {
        **os.environ,
        **config.exportable(),
        "WORLD_SIZE": str(size),
        "NIGHTSHIFT_MEETING": meeting,
    }
    return [
        subprocess.Popen(
            [sys.executable, "-m", *helper],
            cwd=PROJECT,
            env={**surroundings, "RANK": str(rank)},
            stdout=sys.stderr,
        )
        for rank in range(1, size)
    ]


def _await(helpers: Sequence[subprocess.Popen[bytes]], folder: Path) -> None:
    """Until each helper has imported what it needs: one that fails at that would leave the meeting waiting."""
    while len(list(folder.glob("here-*"))) < len(helpers):
        ended = [one.returncode for one in helpers if one.poll() is not None]
        if ended:
            raise TeamError(
                f"a process that was to share the training ended with status {ended[0]} before it came; the log above "
                "says why"
            )
        time.sleep(0.1)


@contextmanager
def _joined(meeting: str, rank: int, size: int) -> Iterator[Team]:
    import torch.distributed as dist

    if meeting.startswith("file:"):
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    with _speaking_plainly():
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size, timeout=SILENCE)
    try:
        yield Team(rank, size)
    finally:
        dist.destroy_process_group()


@contextmanager
def _speaking_plainly() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise TeamError(
            "a process of the shared training ended, or said nothing for "
            f"{SILENCE.total_seconds():.0f} s: {str(error).splitlines()[0]}; the log above says more of it"
        ) from error
