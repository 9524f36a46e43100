"""The datasets that README and notebooks train on: what is shipped is what the program makes, fit for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam2kit.data.check import check_dataset
from sam2kit.data.opening import open_dataset
from sam2kit.data.splitting import split
from sam2kit.evaluation.metrics import region_similarity
from tests.proof_data import choose_pieces, find_galaxies, write_coins, write_galaxies, write_pasted

SHIPPED = Path(__file__).parent.parent / "assets" / "galaxies"


@pytest.mark.slow
def test_shipped_is_what_the_program_makes(tmp_path: Path) -> None:
    from skimage import data

    shipped, fresh = open_dataset(SHIPPED).pictures, open_dataset(write_galaxies(tmp_path)).pictures
    assert [(s.name, s.split) for s in shipped] == [(s.name, s.split) for s in fresh]
    for sample, again in zip((s.read() for s in shipped), (s.read() for s in fresh), strict=True):
        assert np.abs(sample.image.astype(int) - again.image).mean() < 2
        assert region_similarity(sample.picture_masks[0], again.picture_masks[0]) > 0.97
    owners = find_galaxies(data.hubble_deep_field())
    covered, middle = np.zeros(owners.shape, int), owners.shape[1] // 2
    for side, (rows, columns), _ in choose_pieces(owners):
        covered[rows, columns] += 1
        assert columns.stop <= middle if side == "train" else columns.start >= middle
    assert covered.max() == 1, "no two pieces overlap"


def test_galaxies_are_small_and_ready_for_training() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 500_000
    report = check_dataset(SHIPPED)
    assert not report.problems
    assert report.counts["masks"] == 28
    for sample in open_dataset(SHIPPED).pictures:
        read = sample.read()
        assert read.image.shape == (160, 160, 3)
        light, (mask,) = read.image.mean(axis=2), read.picture_masks
        assert np.median(light[mask]) > np.median(light[~mask]) + 20, "brighter than the sky around them"


def test_coins(tmp_path: Path) -> None:
    data = open_dataset(write_coins(tmp_path / "coins"))
    learnt, held_out = split(data)
    assert (len(learnt.pictures), len(held_out.pictures)) == (12, 12)
    assert not check_dataset(data).has_errors
    for read in (sample.read() for sample in data.pictures):
        assert read.image.shape == (96, 96, 3)
        cloth = read.image[~np.any(read.picture_masks, axis=0)].mean()
        assert read.image[read.picture_masks[0]].mean() > cloth + 20, "coins are brighter than the cloth"


def test_pasted_clips(tmp_path: Path) -> None:
    data = open_dataset(write_pasted(tmp_path / "pasted", clips=3))
    learnt, held_out = split(data)
    assert (len(learnt.clips), len(held_out.clips)) == (2, 1)
    read = data.clips[0].read(range(16))
    assert read.frames.shape == (16, 192, 256, 3)
    assert len(read.masks) == 3
    assert all(not np.array_equal(masks[0], masks[-1]) for masks in read.masks.values())
