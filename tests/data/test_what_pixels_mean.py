"""Label pictures whose values could be misread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sam2kit.data.label_images import LabelImage, read_label_image
from sam2kit.data.opening import open_dataset
from sam2kit.data.sample import Sample
from sam2kit.media.mask_files import davis_palette
from tests.data.factory import save


@pytest.fixture
def labels_of(tmp_path: Path) -> Callable[..., LabelImage]:
    """What is read of an array that was saved."""
    return lambda array, suffix=".png": read_label_image(save(Image.fromarray(array), tmp_path / f"mask{suffix}"))


def clip_of(folder: Path, labels: list[np.ndarray]) -> Sample:
    for t, label in enumerate(labels):
        black = Image.fromarray(np.zeros((*label.shape[:2], 3), np.uint8))
        save(black, folder / "JPEGImages" / "clip" / f"{t:05d}.jpg")
        save(Image.fromarray(label), folder / "Annotations" / "clip" / f"{t:05d}.png")
    return open_dataset(folder).clips[0]


def ellipse(scale: int = 4, value: int = 255, at: tuple[int, int] = (80, 60)) -> np.ndarray:
    """uint8 [120 scale, 160 scale]: one hard ellipse, to be made smaller."""
    y, x = np.mgrid[: 120 * scale, : 160 * scale] / scale
    return np.where(((x - at[0]) / 36) ** 2 + ((y - at[1]) / 24) ** 2 < 1, value, 0).astype(np.uint8)


def several(scale: int, values: tuple[int, int, int]) -> np.ndarray:
    """Three ellipses; the second hides parts of the others."""
    first, second, third = (ellipse(scale, 1, at) > 0 for at in ((50, 50), (95, 70), (30, 95)))
    return np.select([second, first, third], values[::-1], 0).astype(np.uint8)


def smaller(mask: np.ndarray, how: int = cv2.INTER_AREA) -> np.ndarray:
    return cv2.resize(mask, (160, 120), interpolation=how)


def cells(count: int, side: int, values: list[int]) -> np.ndarray:
    labels = np.zeros((200, 240), np.uint8)
    for n in range(count):
        y, x = divmod(n, 20)
        labels[12 * y + 3 : 12 * y + 3 + side, 12 * x + 3 : 12 * x + 3 + side] = values[n % len(values)]
    return labels


def of_16_bits() -> np.ndarray:
    labels = cells(200, 6, [*range(1, 201)]).astype(np.uint16)
    return np.where(labels > 0, labels + 100, 0).astype(np.uint16)


NUMBERED: dict[str, Callable[[], np.ndarray]] = {
    "three classes in greys": lambda: several(1, (64, 128, 255)),
    "two classes in greys": lambda: cells(60, 6, [128, 255]),
    "five classes in greys": lambda: cells(100, 6, [51, 102, 153, 204, 255]),
    "numbers": lambda: several(1, (1, 2, 3)),
    "thin layers": lambda: np.repeat(np.arange(12, dtype=np.uint8).repeat(2), 5)[:, None].repeat(100, axis=1)[::2],
    "small cells": lambda: cells(240, 3, list(range(1, 255))),
    "large cells": lambda: cells(240, 9, list(range(16, 256))),
    "cells of 16 bits": of_16_bits,
    "a few specks": lambda: np.where(cells(3, 2, [120]) > 0, 120, cells(80, 8, [60, 255])).astype(np.uint8),
}


@pytest.mark.parametrize("name", NUMBERED)
def test_numbered_masks_stay_numbered(name: str, labels_of: Callable[..., LabelImage], tmp_path: Path) -> None:
    labels = NUMBERED[name]()
    assert np.array_equal(labels_of(labels).ids, labels)
    if labels.dtype == np.uint8:
        palette = Image.fromarray(labels)
        palette.putpalette(davis_palette().tobytes())
        assert np.array_equal(read_label_image(save(palette, tmp_path / "palette.png")).ids, labels)


SOFTENED: dict[str, Callable[[], np.ndarray]] = {
    "halved": lambda: smaller(ellipse(2)),
    "a third": lambda: smaller(ellipse(3)),
    "a quarter": lambda: smaller(ellipse(4)),
    "halved, white is 200": lambda: smaller(ellipse(2, 200)),
    "bilinear": lambda: smaller(ellipse(1)[::3, ::3], cv2.INTER_LINEAR),
    "bicubic": lambda: smaller(ellipse(1)[::3, ::3], cv2.INTER_CUBIC),
    "Lanczos": lambda: np.array(Image.fromarray(ellipse(3)).resize((160, 120), Image.Resampling.LANCZOS)),
    "blurred": lambda: cv2.GaussianBlur(ellipse(1), (0, 0), 5),
    "drawn smoothly": lambda: cv2.ellipse(ellipse(1) * 0, (80, 60), (36, 24), 0, 0, 360, 255, -1, cv2.LINE_AA),
    "once a JPEG": lambda: cv2.imdecode(cv2.imencode(".jpg", ellipse(1))[1], cv2.IMREAD_UNCHANGED),
    "16 bits": lambda: smaller(ellipse(2)).astype(np.uint16) * 257,
    "whole floats": lambda: smaller(ellipse(2)).astype(np.float32),
}  # fmt: skip


@pytest.mark.parametrize("name", SOFTENED)
def test_a_softened_mask_is_one_object(name: str, labels_of: Callable[..., LabelImage]) -> None:
    soft = SOFTENED[name]()
    assert len(np.unique(soft)) > 2
    labels = labels_of(soft, ".tif")
    assert labels.numbers() == [1]
    assert np.array_equal(labels.ids > 0, soft > int(soft.max()) // 2)
    assert (labels.ids > 0).sum() == pytest.approx((ellipse(1) > 0).sum(), rel=0.06)
    assert [note.kind for note in labels.notes] == ["soft_mask"]


def test_thin_things_that_were_halved_are_one_object(labels_of: Callable[..., LabelImage]) -> None:
    """Vessels and wires: no white is left in many places."""
    lines = np.zeros((240, 320), np.uint8)
    for i in range(9):
        cv2.line(lines, (10, 20 + 22 * i), (300, 12 + 25 * i), 255, 3)
    assert len(np.unique(smaller(lines))) == 5
    assert labels_of(smaller(lines)).numbers() == [1]


COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 90, 255), (240, 240, 20)], np.uint8)


@pytest.mark.parametrize("kind", ["greys", "colours", "palette"])
def test_soft_edges_between_several(kind: str, tmp_path: Path) -> None:
    """Also where a program that shrinks PNGs made a palette of colours, whose numbers mean nothing."""
    hard = several(2, (1, 2, 3))
    soft = Image.fromarray(smaller(hard * 85 if kind == "greys" else COLOURS[hard]))
    if kind == "palette":
        soft = soft.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    labels = read_label_image(save(soft, tmp_path / "soft.png"))
    assert labels.numbers() == [85, 170, 255] if kind == "greys" else len(labels.numbers()) == 3
    hard = several(1, (1, 2, 3))
    for number in labels.numbers():
        (of_number,) = np.unique(hard[cv2.erode((labels.ids == number).astype(np.uint8), np.ones((5, 5))) > 0])
        found, wanted = labels.ids == number, hard == of_number
        assert (found & wanted).sum() > 0.95 * (found | wanted if kind == "greys" else wanted).sum()
    assert "soft_mask" in [note.kind for note in labels.notes]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_one_colour_with_soft_edges_is_one_object(suffix: str, labels_of: Callable[..., LabelImage]) -> None:
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[ellipse(1) > 0] = 200, 30, 60
    soft = cv2.resize(picture, (80, 60), interpolation=cv2.INTER_AREA) if suffix == ".png" else picture
    labels = labels_of(soft, suffix)
    assert len(labels.numbers()) == 1
    assert ((labels.ids > 0) == (soft[..., 0] > 100)).mean() > 0.995


def test_255_next_to_small_numbers_is_void(labels_of: Callable[..., LabelImage], tmp_path: Path) -> None:
    label = np.zeros((24, 32), np.uint8)
    label[2:12, 2:12], label[14:22, 14:30] = 1, 255
    assert labels_of(label).numbers() == [1]
    assert "read as void" in labels_of(label).notes[0].text
    assert labels_of(np.where(label == 1, 128, label)).numbers() == [128, 255]
    assert list(clip_of(tmp_path / "void", [label, label]).read().masks) == [1]
    alone = np.where(label == 255, label, 0)
    assert list(clip_of(tmp_path / "alone", [alone, alone]).read().masks) == [255]


def test_colours_mean_the_same_object_on_every_frame(tmp_path: Path) -> None:
    red_and_blue, red = np.zeros((24, 32, 3), np.uint8), np.zeros((24, 32, 3), np.uint8)
    red_and_blue[2:12, 2:12] = red[2:12, 2:12] = 255, 0, 0
    red_and_blue[14:22, 14:30] = 0, 0, 255
    clip = clip_of(tmp_path, [red_and_blue, red, red_and_blue])
    assert clip.object_ids == [1, 2]
    masks = clip.read().masks
    of_red = next(n for n in masks if masks[n][0, 5, 5])
    assert masks[of_red][:, 5, 5].all()
    assert masks[3 - of_red][:, 16, 20].tolist() == [True, False, True]


@pytest.mark.parametrize("frames", [1, 3])
def test_softened_masks_of_a_clip_are_one_object(frames: int, tmp_path: Path) -> None:
    soft = smaller(ellipse(2))
    clip = clip_of(tmp_path, [soft] * frames + [np.where(soft > 127, 255, 0).astype(np.uint8)])
    assert list(clip.object_ids) == [255]
    masks = clip.read().masks
    assert np.array_equal(masks[255][0], masks[255][-1])
