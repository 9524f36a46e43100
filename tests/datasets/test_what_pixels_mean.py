"""Label pictures whose values could be misread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sam2kit.datasets.label_images import read_label_image
from sam2kit.datasets.opening import open_dataset
from sam2kit.media.mask_exports import davis_palette


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


def ellipse(scale: int = 4, value: int = 255, at: tuple[int, int] = (80, 60)) -> np.ndarray:
    """uint8 [120 scale, 160 scale]: one hard ellipse, to be made smaller."""
    y, x = np.mgrid[: 120 * scale, : 160 * scale] / scale
    return np.where(((x - at[0]) / 36) ** 2 + ((y - at[1]) / 24) ** 2 < 1, value, 0).astype(np.uint8)


def cells(count: int, side: int, values: list[int]) -> np.ndarray:
    labels = np.zeros((200, 240), np.uint8)
    for n in range(count):
        y, x = divmod(n, 20)
        labels[12 * y + 3 : 12 * y + 3 + side, 12 * x + 3 : 12 * x + 3 + side] = values[n % len(values)]
    return labels


SOFTENED: dict[str, Callable[[], np.ndarray]] = {
    "halved": lambda: cv2.resize(ellipse(2), (160, 120), interpolation=cv2.INTER_AREA),
    "a third": lambda: cv2.resize(ellipse(3), (160, 120), interpolation=cv2.INTER_AREA),
    "a quarter": lambda: cv2.resize(ellipse(4), (160, 120), interpolation=cv2.INTER_AREA),
    "halved, white is 200": lambda: cv2.resize(ellipse(2, 200), (160, 120), interpolation=cv2.INTER_AREA),
    "bilinear": lambda: cv2.resize(ellipse(1)[::3, ::3], (160, 120), interpolation=cv2.INTER_LINEAR),
    "bicubic": lambda: cv2.resize(ellipse(1)[::3, ::3], (160, 120), interpolation=cv2.INTER_CUBIC),
    "Lanczos": lambda: np.array(Image.fromarray(ellipse(3)).resize((160, 120), Image.Resampling.LANCZOS)),
    "blurred": lambda: cv2.GaussianBlur(ellipse(1), (0, 0), 5),
    "drawn smoothly": lambda: cv2.ellipse(ellipse(1) * 0, (80, 60), (36, 24), 0, 0, 360, 255, -1, cv2.LINE_AA),
    "once a JPEG": lambda: cv2.imdecode(cv2.imencode(".jpg", ellipse(1))[1], cv2.IMREAD_UNCHANGED),
    "16 bits": lambda: cv2.resize(ellipse(2), (160, 120), interpolation=cv2.INTER_AREA).astype(np.uint16) * 257,
    "whole floats": lambda: cv2.resize(ellipse(2), (160, 120), interpolation=cv2.INTER_AREA).astype(np.float32),
}  # fmt: skip


@pytest.mark.parametrize("name", SOFTENED)
def test_a_softened_mask_is_one_object(name: str, tmp_path: Path) -> None:
    soft = SOFTENED[name]()
    assert len(np.unique(soft)) > 2
    labels = read_label_image(write(tmp_path / "soft.tif", soft))
    assert labels.numbers() == [1]
    assert np.array_equal(labels.ids > 0, soft > int(soft.max()) // 2)
    assert (labels.ids > 0).sum() == pytest.approx((ellipse(1) > 0).sum(), rel=0.06)
    assert [note.kind for note in labels.notes] == ["soft_mask"]


def test_thin_things_that_were_halved_are_one_object(tmp_path: Path) -> None:
    """Vessels and wires: no white is left in many places."""
    lines = np.zeros((240, 320), np.uint8)
    for i in range(9):
        cv2.line(lines, (10, 20 + 22 * i), (300, 12 + 25 * i), 255, 3)
    soft = cv2.resize(lines, (160, 120), interpolation=cv2.INTER_AREA)
    assert len(np.unique(soft)) == 5
    labels = read_label_image(write(tmp_path / "lines.png", soft))
    assert labels.numbers() == [1]


@pytest.mark.parametrize("frames", [1, 3])
def test_softened_masks_of_a_clip_are_one_object(frames: int, tmp_path: Path) -> None:
    soft = cv2.resize(ellipse(2), (160, 120), interpolation=cv2.INTER_AREA)
    hard = np.where(soft > 127, 255, 0).astype(np.uint8)
    clip = open_dataset(write_clip(tmp_path, [soft] * frames + [hard])).clips[0]
    assert list(clip.object_ids) == [255]
    masks = clip.read(range(frames + 1)).masks
    assert np.array_equal(masks[255][0], masks[255][-1])


def several(scale: int, values: tuple[int, int, int]) -> np.ndarray:
    first, second = ellipse(scale, 1, (50, 50)), ellipse(scale, 1, (95, 70))
    third = ellipse(scale, 1, (30, 95))
    return np.select([second > 0, first > 0, third > 0], values[::-1], 0).astype(np.uint8)


def test_soft_edges_between_several_greys(tmp_path: Path) -> None:
    hard = several(1, (85, 170, 255))
    soft = cv2.resize(several(2, (85, 170, 255)), (160, 120), interpolation=cv2.INTER_AREA)
    assert len(np.unique(soft)) > 8
    labels = read_label_image(write(tmp_path / "soft.png", soft))
    assert labels.numbers() == [85, 170, 255]
    for value in (85, 170, 255):
        both = (labels.ids == value) & (hard == value)
        assert both.sum() > 0.95 * ((labels.ids == value) | (hard == value)).sum()


COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 90, 255), (240, 240, 20)], np.uint8)


@pytest.mark.parametrize("palette", [False, True])
def test_soft_edges_between_colours(palette: bool, tmp_path: Path) -> None:
    """Also where a program that shrinks PNGs made a palette of them, whose numbers mean nothing."""
    soft = cv2.resize(COLOURS[several(2, (1, 2, 3))], (160, 120), interpolation=cv2.INTER_AREA)
    image = Image.fromarray(soft)
    (image.convert("P", palette=Image.Palette.ADAPTIVE, colors=256) if palette else image).save(tmp_path / "soft.png")
    labels = read_label_image(tmp_path / "soft.png")
    assert len(labels.numbers()) == 3
    hard = several(1, (1, 2, 3))
    for number in labels.numbers():
        (kind,) = np.unique(hard[cv2.erode((labels.ids == number).astype(np.uint8), np.ones((5, 5))) > 0])
        both = (labels.ids == number) & (hard == kind)
        assert both.sum() > 0.95 * (hard == kind).sum()
    assert "soft_mask" in [note.kind for note in labels.notes]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_one_colour_with_soft_edges_is_one_object(suffix: str, tmp_path: Path) -> None:
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[ellipse(1) > 0] = 200, 30, 60
    soft = cv2.resize(picture, (80, 60), interpolation=cv2.INTER_AREA) if suffix == ".png" else picture
    labels = read_label_image(write(tmp_path / f"soft{suffix}", soft))
    wanted = soft[..., 0] > 100
    assert len(labels.numbers()) == 1
    assert ((labels.ids > 0) == wanted).mean() > 0.995


NUMBERED: dict[str, Callable[[], np.ndarray]] = {
    "three classes in greys": lambda: several(1, (64, 128, 255)),
    "two classes in greys": lambda: cells(60, 6, [128, 255]),
    "five classes in greys": lambda: cells(100, 6, [51, 102, 153, 204, 255]),
    "numbers": lambda: several(1, (1, 2, 3)),
    "thin layers": lambda: np.repeat(np.arange(12, dtype=np.uint8).repeat(2), 5)[:, None].repeat(100, axis=1)[::2],
    "small cells": lambda: cells(240, 3, list(range(1, 255))),
    "large cells": lambda: cells(240, 9, list(range(16, 256))),
    "a few specks": lambda: np.where(cells(3, 2, [120]) > 0, 120, cells(80, 8, [60, 255])).astype(np.uint8),
}


@pytest.mark.parametrize("name", NUMBERED)
def test_numbered_masks_stay_numbered(name: str, tmp_path: Path) -> None:
    labels = NUMBERED[name]()
    found = read_label_image(write(tmp_path / "numbers.png", labels))
    assert np.array_equal(found.ids, labels)
    palette = Image.fromarray(labels)
    palette.putpalette(davis_palette().tobytes())
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(read_label_image(tmp_path / "palette.png").ids, labels)
