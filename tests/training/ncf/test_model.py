from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from training.ncf.fit import Batch, _add_l2, _bce, _softmax
from training.ncf.model import NeuMF, Sizes

SIZES = Sizes(users=3, items=4, categories=2, user_inputs=6, item_inputs=4, factors=5, first=7, second=3)
CATEGORY = torch.tensor([1, 2, 2, 1])


@pytest.fixture
def model() -> NeuMF:
    torch.manual_seed(0)
    return NeuMF(SIZES, CATEGORY)


def batch(rows: list[list[int]]) -> Batch:
    torch.manual_seed(1)
    count, width = len(rows), len(rows[0])
    return Batch(
        user=torch.arange(count) % 4,
        user_x=torch.randn(count, 6),
        row=torch.tensor(rows),
        item_x=torch.randn(count, width, 4),
        weight=torch.ones(count),
        whole=count,
        whole_weight=torch.tensor(float(count)),
    )


def test_the_score_is_the_papers_two_towers_side_by_side(model: NeuMF) -> None:
    b = batch([[3, 5, 1]])  # item 1 (category 1), item 3 (category 2), a new item of category 1
    got = model(b.user, b.user_x, b.row, b.item_x)[0]

    for column, (item, category) in enumerate([(1, 1), (3, 2), (0, 1)]):
        q_gmf = model.item_gmf.weight[item] + model.category_gmf.weight[category]
        q_mlp = model.item_mlp.weight[item] + model.category_mlp.weight[category]
        gmf = (model.user_gmf.weight[0] * q_gmf * model.out_gmf).sum()
        first = model.user_in(torch.cat([model.user_mlp.weight[0], b.user_x[0]]))
        first = first + model.item_in(q_mlp) + model.item_x_in(b.item_x[0, column])
        mlp = model.out_mlp(torch.relu(model.hidden(torch.relu(first))))
        torch.testing.assert_close(got[column], (gmf + mlp + model.item_bias.weight[item])[0])


def test_l2_added_by_hand_is_the_gradient_of_the_squared_lengths_that_a_batch_uses(model: NeuMF) -> None:
    b = batch([[3, 4, 4], [6, 2, 5]])
    users, items = (model.user_gmf, model.user_mlp), (model.item_gmf, model.item_mlp)
    own = (b.row - SIZES.categories)[b.row > SIZES.categories]
    squares = [t(b.user).square().sum() for t in users] + [t(own).square().sum() for t in items]
    (_softmax(model, b) + 0.3 * torch.stack(squares).sum() / 2).backward()  # type: ignore[no-untyped-call]
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model.zero_grad()
    _softmax(model, b).backward()  # type: ignore[no-untyped-call]
    _add_l2(model, b, 0.3)

    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


@pytest.mark.parametrize("towers", ["gmf", "mlp"])
def test_one_tower_alone_scores_as_both_do_with_the_other_silent_and_leaves_the_other_untouched(
    towers: str,
) -> None:
    torch.manual_seed(0)
    alone, both = NeuMF(replace(SIZES, towers=towers), CATEGORY), NeuMF(SIZES, CATEGORY)
    both.load_state_dict(alone.state_dict())
    b = batch([[3, 4, 4], [6, 2, 5]])
    torch.testing.assert_close(
        alone(b.user, b.user_x, b.row, b.item_x), both(b.user, b.user_x, b.row, b.item_x)
    )

    _softmax(alone, b).backward()  # type: ignore[no-untyped-call]
    _add_l2(alone, b, 0.3)
    silent = alone.out_mlp.weight if towers == "gmf" else alone.user_gmf.weight
    assert silent.grad is None and not silent.any()


def test_the_papers_cross_entropy_asks_for_a_one_of_the_positive_and_zeros_of_the_others(
    model: NeuMF,
) -> None:
    weight = torch.tensor([1.0, 3.0])
    b = replace(batch([[3, 4, 4], [6, 2, 5]]), weight=weight, whole_weight=weight.sum())
    scores = model(b.user, b.user_x, b.row, b.item_x)
    chance = torch.sigmoid(scores)
    each = -torch.cat([chance[:, :1].log(), (1 - chance[:, 1:]).log()], dim=1)
    torch.testing.assert_close(_bce(model, b), (each * b.weight[:, None]).sum() / (b.weight.sum() * 3))
