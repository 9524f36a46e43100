"""Tensors that follow from weights or sizes are made once, and made again when they must be."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sam2kit.model.hiera import Hiera
from sam2kit.model.layers import Derived
from sam2kit.model.positions import FourierPositions, rotary_table, sine_map
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.video import VideoPredictor


class Counted:
    """Doubles a weight, and counts how often."""

    def __init__(self) -> None:
        self.weight, self.made, self.kept = nn.Parameter(torch.ones(3)), 0, Derived()

    def get(self, key: object = None) -> Tensor:
        def make() -> Tensor:
            self.made += 1
            return 2 * self.weight

        return self.kept.get(make, [self.weight], key)


def test_it_is_made_once_while_nothing_changes() -> None:
    counted = Counted()
    with torch.no_grad():
        assert counted.get() is counted.get()
    with torch.inference_mode():
        assert counted.get().tolist() == [2, 2, 2]
    assert counted.made == 1
    counted.get().sum().backward()
    assert counted.weight.grad.tolist() == [2, 2, 2], "gradients flow where they are wanted"
    with torch.no_grad():
        assert not counted.get().requires_grad


@pytest.mark.parametrize("change", ["in place", "loaded", "another", "key"])
@torch.no_grad()
def test_a_change_is_noticed(change: str) -> None:
    counted = Counted()
    counted.get()
    if change == "in place":
        counted.weight.add_(1)
    elif change == "loaded":
        module = nn.Module()
        module.weight = counted.weight
        module.load_state_dict({"weight": torch.full((3,), 2.0)})
    elif change == "another":
        counted.weight = nn.Parameter(torch.full((3,), 2.0))
    wanted = [2, 2, 2] if change == "key" else [4, 4, 4]
    assert counted.get("key" if change == "key" else None).tolist() == wanted
    assert counted.made == 2


def test_what_was_kept_in_inference_serves_training() -> None:
    """An inference tensor could not be saved for the backward pass."""
    with torch.inference_mode():
        tables = sine_map(4, 6, 8), rotary_table(4, 6, 8), sine_map(4, 6, 8)
    assert tables[0] is tables[2]
    weight = torch.ones(8, 4, 6, requires_grad=True)
    (weight * sine_map(4, 6, 8)).sum().backward()
    assert torch.equal(weight.grad, tables[0].reshape(8, 4, 6))
    assert not any(table.is_inference() for table in tables)


@torch.no_grad()
def test_places_follow_their_weights(toy: SAM2) -> None:
    trunk = next(m for m in toy.modules() if isinstance(m, Hiera))
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = trunk(pixels)[0]
    trunk.pos_embed.mul_(-3).add_(1)
    after = trunk(pixels)[0]
    fresh = copy.deepcopy(trunk)
    fresh._places = Derived()
    assert not torch.equal(before, after) and torch.equal(after, fresh(pixels)[0])
    points = next(m for m in toy.modules() if isinstance(m, FourierPositions))
    grid = points.grid(4)
    for other in (copy.deepcopy(points), pickle.loads(pickle.dumps(points))):
        other.positional_encoding_gaussian_matrix.zero_()
        assert not torch.equal(other.grid(4), grid), "copies keep nothing of the original"
    points.positional_encoding_gaussian_matrix.mul_(2)
    assert not torch.equal(grid, points.grid(4))
    points.load_state_dict({k: v / 2 for k, v in points.state_dict().items()})
    assert torch.equal(grid, points.grid(4))


def test_nobody_changes_what_is_kept(toy: SAM2) -> None:
    """The same work a second time has the same result to the bit."""
    predictor = VideoPredictor(toy)
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), np.uint8)
    answers = []
    for _ in range(2):
        session = predictor.open(frames)
        predictor.add_points(session, 0, 1, [[30, 20]])
        answers.append([frame.logits for frame in predictor.propagate(session)])
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))
