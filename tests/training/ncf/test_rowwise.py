from __future__ import annotations

from typing import Any

import pytest
import torch

from training.ncf.rowwise import EPSILON, Table, stochastic_bfloat16

CPU = torch.device("cpu")


def table(rows: int = 50, width: int = 4, dtype: torch.dtype = torch.float32, std: float = 0.1) -> Table:
    random = torch.Generator().manual_seed(3)
    return Table(rows, width, std=std, dtype=dtype, device=CPU, random=random)


def test_a_step_is_the_formula_written_out_and_touches_no_other_row() -> None:
    learnt, random = table(), torch.Generator().manual_seed(0)
    weight, sums = learnt.weight.clone(), torch.zeros(50)
    for _ in range(5):
        ids = torch.randint(0, 20, (30,), generator=random)  # ids come several times
        gradient = torch.randn(30, 4, generator=random)
        learnt.step(ids, gradient, rate=0.1)
        for row in set(ids.tolist()):
            total = gradient[ids == row].sum(dim=0)
            sums[row] += total.square().mean()
            weight[row] -= 0.1 * total / (sums[row].sqrt() + EPSILON)
    torch.testing.assert_close(learnt.weight, weight)
    torch.testing.assert_close(learnt.squares, sums)
    assert torch.equal(learnt.weight[20:], table().weight[20:])


def test_with_one_weight_a_row_it_is_the_adagrad_of_torch() -> None:
    learnt = table(width=1)
    theirs = torch.nn.Parameter(learnt.weight.clone())
    optimiser = torch.optim.Adagrad([theirs], lr=0.1, eps=EPSILON)
    random = torch.Generator().manual_seed(1)
    for _ in range(4):
        gradient = torch.randn(50, 1, generator=random)
        learnt.step(torch.arange(50), gradient, rate=0.1)
        theirs.grad = gradient
        optimiser.step()
    torch.testing.assert_close(learnt.weight, theirs.detach())


@pytest.mark.parametrize(("dtype", "bytes_each"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_beside_its_weights_a_table_holds_one_number_a_row(dtype: torch.dtype, bytes_each: int) -> None:
    assert table(dtype=dtype).bytes == 50 * 4 * bytes_each + 50 * 4


def test_the_initial_weights_have_the_deviation_that_was_asked_for() -> None:
    weights = table(rows=2_000, width=16, std=0.05).weight
    assert weights.std().item() == pytest.approx(0.05, rel=0.03) and abs(weights.mean().item()) < 1e-3


def test_rounding_to_bfloat16_is_unbiased_and_never_beyond_the_two_neighbours() -> None:
    value = torch.full((200_000,), 1.0 + 0.3 * 2**-7)
    rounded = stochastic_bfloat16(value, torch.Generator().manual_seed(0)).float()
    assert set(rounded.tolist()) == {1.0, 1.0 + 2**-7}
    assert rounded.mean().item() == pytest.approx(value[0].item(), abs=2e-5)
    kept = torch.tensor([0.0, -1.5, 2.0])
    assert torch.equal(stochastic_bfloat16(kept, torch.Generator().manual_seed(0)).float(), kept)
    negative = stochastic_bfloat16(-value, torch.Generator().manual_seed(0)).float()
    assert negative.mean().item() == pytest.approx(-value[0].item(), abs=2e-5)


def test_updates_too_small_for_bfloat16_add_up_all_the_same() -> None:
    """Rounded to nearest, each of them would be lost and the weights would never move."""
    learnt = table(rows=400, width=8, dtype=torch.bfloat16, std=0.0)
    learnt.weight.fill_(1.0)
    learnt.squares.fill_(
        1.0
    )  # so that a step moves a weight by a thousandth: a quarter of what bfloat16 tells apart
    moves: list[Any] = []
    for _ in range(20):
        learnt.step(torch.arange(400), torch.full((400, 8), 1e-3), rate=1.0)
        moves.append(1.0 - learnt.weight.float().mean().item())
    assert moves[-1] == pytest.approx(0.02, rel=0.1)
