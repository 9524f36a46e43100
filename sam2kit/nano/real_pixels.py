"""Photographs with masks, and rotating objects with alpha: the real pixels that nano learns from.

    photos/SET/annotations.json, *.jpg    COCO with run lengths; a set is drawn, then a photograph, then categories
    turntables/NAME.webp                  24 square views of one turn, side by side, with alpha

Neither is part of this project. A tenth of the photographs and of the objects is held out, always the same ones.
Before scenes.py and moving_scenes.py, which paste cut-outs of both over photographs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from pycocotools import mask as run_lengths

from sam2kit.media.pictures import open_image, read_picture

_HELD_OUT_EVERY = 10
_VIEWS = 24  # of a turntable
# how readily a set is drawn: scenes as people film them before microscopes and gravel; an unknown set counts 1
_SET_WEIGHTS = {"cats": 5, "facades": 3, "bottles": 2, "boards": 2, "strawberries": 1.5, "cells": 0.5, "particles": 0.5}
# sets whose masks are parts of something, or stand where they are: nothing to cut out and lay elsewhere
_FIXED_SETS = ("cells", "facades", "limbs", "particles", "warehouse")
_CUT_OUT_SHARE = 0.012  # of its photograph, at least: smaller things have no detail


@dataclass(frozen=True)
class Photo:
    """A photograph and its masks, decoded when they are needed."""

    path: Path
    categories: tuple[int, ...]
    masks: tuple[dict[str, Any], ...] = field(repr=False)  # COCO run lengths

    def mask(self, number: int) -> np.ndarray:
        """bool [H, W] of one of its masks."""
        return run_lengths.decode(self.masks[number]).astype(bool)

    def drawn(self, rng: Generator, count: int) -> list[int]:
        """Different masks in a random order, evenly by category: a street is not windows alone."""
        groups: dict[int, list[int]] = defaultdict(list)
        for number in rng.permutation(len(self.masks)).tolist():
            groups[self.categories[number]].append(number)
        order: list[int] = []
        while groups and len(order) < count:
            for category in rng.permutation(list(groups)).tolist():
                order.append(groups[category].pop())
                if not groups[category]:
                    del groups[category]
        return order[:count]


def read_photo_sets(folder: Path, *, held_out: bool = False) -> dict[str, list[Photo]]:
    """The photographs with masks of each set: those to learn from, or the tenth that is held out.

    Raises:
        FileNotFoundError: if there is no set.
    """
    sets = {}
    for file in sorted(folder.glob("*/annotations.json")):
        content = json.loads(file.read_text())
        masks: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            masks[annotation["image_id"]].append(annotation)
        photos = [
            Photo(
                file.parent / image["file_name"],
                tuple(a["category_id"] for a in masks[image["id"]]),
                tuple(a["segmentation"] for a in masks[image["id"]]),
            )
            for number, image in enumerate(content["images"])
            if (number % _HELD_OUT_EVERY == 0) == held_out and masks[image["id"]]
        ]
        sets[file.parent.name] = photos
    if not sets:
        raise FileNotFoundError(f"{folder} holds no SET/annotations.json; give the folder with all sets of photographs")
    return sets


def read_turntables(folder: Path, *, held_out: bool = False) -> list[Path]:
    """The files of the objects to learn from, or of the tenth that is held out.

    Raises:
        FileNotFoundError: if there is none.
    """
    found = sorted(folder.glob("*.webp"))
    if not found:
        raise FileNotFoundError(f"{folder} holds no NAME.webp; give the folder with the turntables")
    return [path for number, path in enumerate(found) if (number % _HELD_OUT_EVERY == 3) == held_out]


class RealPixels:
    """Draws photographs, backgrounds and cut-outs.

    Args:
        photos, turntables: the two folders.
        held_out: draw from what training never sees.
    """

    def __init__(self, photos: Path, turntables: Path, *, held_out: bool = False) -> None:
        sets = read_photo_sets(photos, held_out=held_out)
        self._sets = {name: found for name, found in sets.items() if found}
        weights = np.array([_SET_WEIGHTS.get(name, 1.0) for name in self._sets])
        self._chances = weights / weights.sum()
        self._turntables = read_turntables(turntables, held_out=held_out)
        self._pixels = lru_cache(maxsize=2048)(read_picture)
        self._strip = lru_cache(maxsize=256)(_read_strip)

    def photo(self, rng: Generator, but: Sequence[str] = ()) -> tuple[Photo, np.ndarray]:
        """A photograph and its pixels uint8 [H, W, 3]; evenly by set, as far as sets are worth the same."""
        names = list(self._sets)
        chances = self._chances * [name not in but for name in names]
        chosen = self._sets[names[int(rng.choice(len(names), p=chances / chances.sum()))]]
        photo = chosen[int(rng.integers(len(chosen)))]
        return photo, self._pixels(photo.path)

    def ground(self, rng: Generator, side: int) -> np.ndarray:
        """A square part of a photograph as a background: float32 [side, side, 3] in 0..1."""
        _, pixels = self.photo(rng)
        height, width = pixels.shape[:2]
        edge = int(min(height, width) * rng.uniform(0.5, 1.0))
        y, x = int(rng.integers(height - edge + 1)), int(rng.integers(width - edge + 1))
        part = pixels[y : y + edge, x : x + edge][:, :: int(rng.choice([-1, 1]))]
        return (
            cv2.resize(np.ascontiguousarray(part), (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        )

    def cut_out(self, rng: Generator) -> list[np.ndarray]:
        """The views of one thing, uint8 [h, w, 4] RGB and coverage: 24 of a turn, or one of a photograph."""
        if rng.random() < 0.5:
            views = self._strip(self._turntables[int(rng.integers(len(self._turntables)))])
            first = int(rng.integers(len(views)))
            return views[first:] + views[:first]
        while True:
            photo, pixels = self.photo(rng, _FIXED_SETS)
            mask = photo.mask(int(rng.integers(len(photo.masks))))
            if mask.mean() > _CUT_OUT_SHARE:
                return [_cut(pixels, mask)]


def _read_strip(path: Path) -> list[np.ndarray]:
    with open_image(path) as strip:
        pixels = np.asarray(strip.convert("RGBA"))
    return [np.ascontiguousarray(view) for view in np.split(pixels, _VIEWS, axis=1)]


def _cut(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask with a soft edge just inside of it, so that nothing of what lay behind comes along."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    coverage = cv2.GaussianBlur(inner.astype(np.float32), (0, 0), 0.7)
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    both = np.concatenate([pixels, np.rint(255 * coverage[..., None]).astype(np.uint8)], axis=2)
    return np.pad(both[y : y + height, x : x + width], ((2, 2), (2, 2), (0, 0)))
