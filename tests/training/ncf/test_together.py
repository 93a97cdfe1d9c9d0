"""Several processes make the steps that one would: the same gradient and weights, and none waits for a dead one."""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from nightshift.errors import SettingsError, TeamError
from nightshift.settings import Settings
from tests.training.ncf.conftest import CPU, SMALL
from training.families import FAMILIES
from training.ncf import together
from training.ncf.data import Window
from training.ncf.fit import LOSSES, Inputs, _add_l2, _batches, _sizes, fit, prepare
from training.ncf.model import NeuMF
from training.recipe import Night
from training.team import Team, _joined, leading


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("size", [2, 3])
def test_the_gradients_of_the_parts_add_up_to_that_of_the_batch(window: Window, loss: str, size: int) -> None:
    inputs, hyper = prepare(window, CPU), replace(SMALL, loss=loss, batch=50)
    taken = np.unique(window.met[:, 0] * (len(window.items) + 1) + window.met[:, 1])

    def gradients(team: Team) -> list[tuple[float, dict[str, torch.Tensor]]]:
        torch.manual_seed(0)
        model, found = NeuMF(_sizes(window, hyper, inputs), inputs.category[1:]), []
        for batch in _batches(window, inputs, hyper, taken, np.random.default_rng(1), team):
            model.zero_grad()
            share = LOSSES[loss](model, batch)
            share.backward()  # type: ignore[no-untyped-call]
            _add_l2(model, batch, hyper.l2)
            grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
            found.append((float(share.detach()), grads))
        return found

    whole, parts = gradients(Team()), [gradients(Team(rank, size)) for rank in range(size)]
    for one, shares in zip(whole, zip(*parts, strict=True), strict=True):
        assert sum(share for share, _ in shares) == pytest.approx(one[0], rel=1e-4)
        for name, gradient in one[1].items():
            torch.testing.assert_close(
                sum(grads[name] for _, grads in shares), gradient, rtol=1e-3, atol=1e-6
            )


def digest_of(model: NeuMF) -> str:
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def member(rank: int, meeting: str, window: Window, answers: multiprocessing.SimpleQueue[str]) -> None:
    """One of two that fit together; each begins with other weights, and one batch is smaller than the team."""
    torch.set_num_threads(1)
    with _joined(meeting, rank, 2) as team:

        def start(model: NeuMF) -> None:
            model.out_gmf.data += rank

        rows = len(window.user)
        hyper = replace(SMALL, batch=rows - 1 if rows % 64 else 64)
        model, _ = fit(
            window, hyper, epochs=2, seed=1, device=CPU, after_epoch=lambda *_: True, start=start, team=team
        )
        answers.put(digest_of(model))


def test_two_processes_have_the_same_weights_to_the_bit(window: Window, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers, meeting = context.SimpleQueue(), f"file://{tmp_path}/meeting"
    other = context.Process(target=member, args=(1, meeting, window, answers))
    other.start()
    member(0, meeting, window, answers)
    other.join(60)
    assert answers.get() == answers.get()


def test_a_helper_by_command_makes_the_leaders_steps_and_ends_with_it(
    window: Window, tiny_night: Night, featured_home: Settings
) -> None:
    alone, shared = [], []

    def note(losses: list[float]) -> together.AfterEpoch:
        def after_epoch(epoch: int, loss: float, model: NeuMF, inputs: Inputs) -> bool:
            losses.append(loss)
            return epoch < 3

        return after_epoch

    fit(window.until(2), SMALL, epochs=9, seed=1, device=CPU, after_epoch=note(alone))
    config = featured_home.model_copy(update={"train_processes": 2})
    with leading(config, *together.command(tiny_night)) as team:
        (helper,) = helpers()
        together.fit_together(
            team, window, SMALL, cut=2, epochs=9, seed=1, device=CPU, after_epoch=note(shared)
        )
    assert shared == pytest.approx(alone, rel=1e-3) and len(shared) == 3
    assert not helper.is_running()


def test_a_helper_that_is_killed_ends_the_training_in_words_and_at_once(
    window: Window, tiny_night: Night, featured_home: Settings
) -> None:
    killed: list[float] = []

    def after_epoch(epoch: int, loss: float, model: NeuMF, inputs: Inputs) -> bool:
        for helper in helpers():
            helper.kill()
        killed.append(time.monotonic())
        return True

    config = featured_home.model_copy(update={"train_processes": 2})
    with (
        pytest.raises(TeamError, match="a process of the shared training ended"),
        leading(config, *together.command(tiny_night)) as team,
    ):
        together.fit_together(team, window, SMALL, epochs=50, seed=1, device=CPU, after_epoch=after_epoch)
    assert len(killed) == 1 and time.monotonic() - killed[0] < 30 and not helpers()


def helpers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [one for one in children if one.is_running() and "training.ncf.together" in one.cmdline()]


def test_a_card_and_the_large_path_are_left_to_one_process(
    featured_home: Settings, tiny_night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = featured_home.model_copy(update={"train_processes": 2})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(SettingsError, match="NIGHTSHIFT_TRAIN_PROCESSES=1"), leading(config):
        pass
    monkeypatch.setattr("training.ncf.large_recipe.IDS", 10)
    with pytest.raises(SettingsError, match="trains in one process"):
        FAMILIES["ncf"].load().train(
            tiny_night, config, tmp_path, smoke=True, seed=0, log_epoch=lambda epoch, metrics: None
        )
