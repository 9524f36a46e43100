"""A base to train from, and tiny datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2kit.model.sam2 import SAM2
from sam2kit.weights import load_model, save_model


@pytest.fixture
def base(tmp_path: Path, toy: SAM2) -> Path:
    """A toy model in a file."""
    return save_model(toy, tmp_path / "base.safetensors")


def write_pictures(folder: Path, splits: list[str], objects: Callable[[int], int]) -> Path:
    """Pictures with bright squares side by side: one for each of the splits, "" for none."""
    for number, split in enumerate(splits):
        rng = np.random.default_rng(number)
        image, mask = rng.integers(0, 60, (48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
        for value in range(1, 1 + objects(number)):
            y, x = int(rng.integers(0, 28)), int(rng.integers(0, 14)) + 32 * (value - 1)
            mask[y : y + 18, x : x + 18] = value
        image[mask > 0] += 150
        for part, array in (("images", image), ("masks", mask)):
            path = folder / split / part / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures with one or two squares each."""
    return write_pictures(tmp_path / "data", [""] * 10, lambda number: 1 + number % 2)


@pytest.fixture
def split_pictures(tmp_path: Path) -> Path:
    """Eight pictures with two squares each: four to train on, three to choose the epoch on, one for the end."""
    return write_pictures(tmp_path / "split", ["train"] * 4 + ["val"] * 3 + ["test"], lambda number: 2)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Four clips of six frames in which two squares move; one of them vanishes for a while."""
    for number in range(4):
        rng = np.random.default_rng(number)
        for t in range(6):
            image, mask = rng.integers(0, 60, (48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
            mask[6:22, 4 + 4 * t : 20 + 4 * t] = 0 if t == 3 else 1
            mask[28:44, 40 - 3 * t : 58 - 3 * t] = 2
            image[mask > 0] += 150
            for part, array, suffix in (("JPEGImages", image, "jpg"), ("Annotations", mask, "png")):
                path = tmp_path / "clips" / part / f"c{number}" / f"{t:05d}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    return tmp_path / "clips"


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Of a model on the CPU."""
    return load_model(folder, "cpu").state_dict()


def assert_same_weights(one: Path, other: Path) -> None:
    """Bit for bit."""
    a, b = weights_of(one), weights_of(other)
    assert all(torch.equal(a[name], b[name]) for name in a)
