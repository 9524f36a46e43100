"""What is held out, and how a dataset is recognised."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from sam2kit.data.opening import open_dataset
from sam2kit.data.sample import Dataset
from sam2kit.data.splitting import fingerprint, split
from tests.data.factory import block, write_mask, write_picture

ONE = block(5, 5, 20, 30)


def folders(root: Path, names: range, split_name: str = "") -> Path:
    for i in names:
        write_picture(root / split_name / "images" / f"{i}.png", i)
        write_mask(root / split_name / "masks" / f"{i}.png", ONE)
    return root


def names_of(dataset: Dataset) -> set[str]:
    return {sample.name for sample in dataset.samples}


def test_it_is_drawn_by_name(tmp_path: Path) -> None:
    dataset = open_dataset(folders(tmp_path, range(40)))
    train, held_out = split(dataset)
    assert names_of(train) | names_of(held_out) == names_of(dataset)
    assert not names_of(train) & names_of(held_out)
    assert 3 <= len(held_out) <= 14
    assert names_of(split(dataset, seed=1)[1]) != names_of(held_out)
    more = open_dataset(folders(tmp_path, range(40, 60)))
    assert names_of(split(more)[1]) & names_of(dataset) == names_of(held_out), "adding files must not reshuffle"


def test_each_side_has_a_sample(tmp_path: Path) -> None:
    dataset = open_dataset(folders(tmp_path, range(2)))
    for share, seed in ((share, seed) for share in (0.01, 0.5, 0.99) for seed in range(5)):
        train, held_out = split(dataset, share, seed)
        assert len(train) == len(held_out) == 1
    with pytest.raises(ValueError, match="has 1 usable samples; to hold some out it needs two"):
        split(train)
    with pytest.raises(ValueError, match=r"share above 0 and below 1, got 1\.5"):
        split(dataset, 1.5)


def test_the_datasets_own_split_is_kept(tmp_path: Path) -> None:
    for names, split_name in ((range(3), "train"), (range(3, 5), "valid"), (range(5, 6), "test")):
        folders(tmp_path, names, split_name)
    dataset = open_dataset(tmp_path)
    assert dataset.describe().endswith("6 pictures (3 train, 2 val, 1 test)")
    train, held_out = split(dataset)
    assert (len(train), len(held_out)) == (3, 2)
    assert {sample.split for sample in held_out.pictures} == {"val"}
    shutil.rmtree(tmp_path / "valid")
    assert {sample.split for sample in split(open_dataset(tmp_path))[1].pictures} == {"test"}


def test_the_same_picture_stays_on_one_side(tmp_path: Path) -> None:
    folders(tmp_path, range(6))
    for i in range(6):  # again, as JPEG of another name
        image = Image.open(tmp_path / "images" / f"{i}.png")
        image.save(tmp_path / "images" / f"copy of {i}.jpg", quality=85)
        write_mask(tmp_path / "masks" / f"copy of {i}.png", ONE)
    for seed in range(5):
        train, held_out = split(open_dataset(tmp_path), 0.5, seed)
        for side in (train, held_out):
            plain = {name.split("/")[1].removeprefix("copy of ").split(".")[0] for name in names_of(side)}
            assert len(side) == 2 * len(plain)


def test_fingerprint(tmp_path: Path) -> None:
    first, second = (folders(tmp_path / name, range(4)) for name in ("here", "there"))
    mark = fingerprint(open_dataset(first))
    assert mark == fingerprint(open_dataset(second)), "another place is the same dataset"
    write_mask(second / "masks" / "2.png", block(5, 5, 20, 31))
    assert mark != fingerprint(open_dataset(second))
    folders(first, range(4, 5))
    assert mark != fingerprint(open_dataset(first))
