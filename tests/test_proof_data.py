"""The two datasets that the README trains on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sam2kit.datasets.check import check_dataset
from sam2kit.datasets.opening import open_dataset
from sam2kit.datasets.splitting import split
from tests import proof_data


def test_coins(tmp_path: Path) -> None:
    data = open_dataset(proof_data.write_coins(tmp_path / "coins"))
    learnt, held_out = split(data)
    assert (len(learnt.pictures), len(held_out.pictures)) == (12, 12)
    assert not check_dataset(data).spoiled
    for sample in data.pictures:
        read = sample.read()
        assert read.image.shape == (96, 96, 3)
        inside, outside = read.image[read.masks[0]].mean(), read.image[~np.any(read.masks, axis=0)].mean()
        assert inside > outside + 20, "coins are brighter than the cloth"


def test_pasted_clips(tmp_path: Path, monkeypatch) -> None:  # noqa: ANN001
    monkeypatch.setattr(proof_data, "_CLIPS", 3)
    data = open_dataset(proof_data.write_pasted(tmp_path / "pasted"))
    learnt, held_out = split(data)
    assert (len(learnt.clips), len(held_out.clips)) == (2, 1)
    read = data.clips[0].read(range(16))
    assert read.frames.shape == (16, 192, 256, 3)
    assert len(read.masks) == 3
    assert all(not np.array_equal(masks[0], masks[-1]) for masks in read.masks.values())
