"""The galaxies in assets/: what is shipped is what the program makes, small, and fit for training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam2kit.datasets.check import check_dataset
from sam2kit.datasets.opening import open_dataset
from sam2kit.evaluation.metrics import region_similarity
from tests.make_galaxies import choose_pieces, find_galaxies, write_galaxies

SHIPPED = Path(__file__).parent.parent / "assets" / "galaxies"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:  # noqa: ANN001
    return write_galaxies(tmp_path_factory.mktemp("galaxies"))


def test_shipped_is_what_the_program_makes(made: Path) -> None:
    shipped, fresh = open_dataset(SHIPPED).pictures, open_dataset(made).pictures
    assert [(s.name, s.split) for s in shipped] == [(s.name, s.split) for s in fresh]
    for sample, again in zip((s.read() for s in shipped), (s.read() for s in fresh), strict=True):
        assert np.abs(sample.image.astype(int) - again.image).mean() < 2
        assert region_similarity(sample.masks[0], again.masks[0]) > 0.97


def test_it_is_small_and_ready_for_training() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 500_000
    report = check_dataset(SHIPPED)
    assert not report.problems
    assert report.counts["masks"] == 28


def test_galaxies_are_brighter_than_the_sky_around_them() -> None:
    for sample in open_dataset(SHIPPED).pictures:
        read = sample.read()
        assert read.image.shape == (160, 160, 3)
        light, (mask,) = read.image.mean(axis=2), read.masks
        assert np.median(light[mask]) > np.median(light[~mask]) + 20


def test_no_two_pieces_overlap_and_each_half_has_its_split() -> None:
    from skimage import data

    owners = find_galaxies(data.hubble_deep_field())
    pieces = choose_pieces(owners)
    covered = np.zeros(owners.shape, int)
    for piece in pieces:
        covered[piece.cut] += 1
        left = piece.x + piece.side <= owners.shape[1] // 2
        assert piece.split == ("train" if left else "val")
        assert left or piece.x >= owners.shape[1] // 2
    assert len(pieces) == 28
    assert covered.max() == 1
