"""Label pictures whose values could be misread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2kit.datasets.label_images import read_label_image
from sam2kit.datasets.opening import open_dataset


def write(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def write_clip(folder: Path, labels: list[np.ndarray]) -> Path:
    for t, label in enumerate(labels):
        write(folder / "JPEGImages" / "clip" / f"{t:05d}.jpg", np.zeros((*label.shape[:2], 3), np.uint8))
        write(folder / "Annotations" / "clip" / f"{t:05d}.png", label)
    return folder


@pytest.mark.parametrize(("count", "kind"), [(240, np.uint8), (300, np.uint16)])
def test_a_map_of_many_cells_has_no_soft_edges(tmp_path: Path, count: int, kind: type) -> None:
    labels = np.zeros((400, 400), kind)
    for n in range(count):
        y, x = divmod(n, 20)
        labels[20 * y + 4 : 20 * y + 10, 20 * x + 4 : 20 * x + 10] = n + 1 + (255 - count if kind is np.uint8 else 0)
    assert (labels > 0).mean() < 0.1
    assert len(read_label_image(write(tmp_path / "cells.png", labels)).numbers()) == count


def test_colours_mean_the_same_object_on_every_frame(tmp_path: Path) -> None:
    red_and_blue, red = np.zeros((24, 32, 3), np.uint8), np.zeros((24, 32, 3), np.uint8)
    for picture in (red_and_blue, red):
        picture[2:12, 2:12] = 255, 0, 0
    red_and_blue[14:22, 14:30] = 0, 0, 255
    clip = open_dataset(write_clip(tmp_path, [red_and_blue, red, red_and_blue])).clips[0]
    assert clip.object_ids == [1, 2]
    masks = clip.read([0, 1, 2]).masks
    of_red = next(n for n in masks if masks[n][0, 5, 5])
    assert masks[of_red][:, 5, 5].all()
    assert masks[3 - of_red][:, 16, 20].tolist() == [True, False, True]


def test_255_next_to_small_numbers_is_void_in_clips(tmp_path: Path) -> None:
    label = np.zeros((24, 32), np.uint8)
    label[2:12, 2:12], label[14:22, 14:30] = 1, 255
    clip = open_dataset(write_clip(tmp_path / "void", [label, label])).clips[0]
    assert list(clip.read([0, 1]).masks) == [1]
    alone = np.where(label == 255, 255, 0).astype(np.uint8)
    clip = open_dataset(write_clip(tmp_path / "alone", [alone, alone])).clips[0]
    assert list(clip.read([0, 1]).masks) == [255]
