"""YOLO-seg from any dataset: a polygon per mask, in 0..1, and exact_masks.json for what no polygon gives back.

Every polygon is filled again after it is written; holes come back exactly, but the bridges to further parts of a mask
are a pixel wide.
"""

from __future__ import annotations

import json
import math
from typing import Any

import cv2
import numpy as np

from sam2kit.datasets.convert import Conversion, PlainNames, frame_file, picture_file, read_or_skip
from sam2kit.datasets.convert_coco import NAMELESS
from sam2kit.datasets.samples import ClipSample, Dataset, LabelledPicture
from sam2kit.datasets.yolo import EXACT_MASKS, exact_masks_json
from sam2kit.media.bundles import FileBundle
from sam2kit.media.polygons import mask_to_polygon, polygon_to_mask
from sam2kit.media.runlengths import compress_runs, mask_to_runs

_DIGITS = 1_000_000
_MOST_PARTS = 64  # joined by bridges; of more, the largest


class _Writer:
    """What all label files share."""

    def __init__(self, bundle: FileBundle, result: Conversion) -> None:
        self.bundle, self.result = bundle, result
        self.classes: dict[str, int] = {}
        self.splits: dict[str | None, None] = {}
        self.exact: dict[str, dict[str, dict[str, Any]]] = {}
        self.inexact = self.wrong_pixels = 0

    def write(self, split: str | None, name: str, image: tuple[bytes, str], labelled: LabelledPicture) -> None:
        """One picture and its labels."""
        folder = f"{split}/" if split else ""
        label_file = f"labels/{folder}{name}.txt"
        lines: dict[str, None] = {}
        labels = labelled.labels or [None] * len(labelled.masks)
        for mask, label in zip(labelled.masks, labels, strict=True):
            number = self.classes.setdefault(label or NAMELESS, len(self.classes))
            line = f"{number} {_corners(mask)}"
            while line in lines:  # a line must tell its mask; repeating a corner changes nothing
                line += " " + " ".join(line.split()[-2:])
            lines[line] = None
            self._compare(line, mask, label_file)
        self.bundle.write(f"images/{folder}{name}{image[1]}", image[0])
        self.bundle.write(label_file, "".join(f"{line}\n" for line in lines))
        self.splits[split] = None
        self.result.masks += len(lines)

    def _compare(self, line: str, mask: np.ndarray, label_file: str) -> None:
        """Keep a mask besides, if its line does not give it back."""
        values = np.array(line.split()[1:], float).reshape(-1, 2)
        filled = polygon_to_mask(values * mask.shape[::-1], mask.shape)
        wrong = int(np.count_nonzero(filled != mask))
        if wrong:
            self.inexact += 1
            self.wrong_pixels += wrong
            self.exact.setdefault(label_file, {})[line] = compress_runs(mask_to_runs(mask))

    def finish(self) -> None:
        """data.yaml, exact_masks.json, and what is to be said."""
        paths = {split: f"images/{split}" if split else "images" for split in self.splits}
        train = paths.get("train") or paths.get(None) or next(iter(paths.values()))
        rows = [f"train: {train}", f"val: {paths.get('val', paths.get('test', train))}"]
        rows += [f"test: {paths['test']}"] if "test" in paths else []
        names = "".join(f"  {number}: {json.dumps(name)}\n" for name, number in self.classes.items())
        self.bundle.write("data.yaml", "path: .\n" + "\n".join(rows) + f"\nnames:\n{names}")
        if self.exact:
            self.bundle.write(EXACT_MASKS, exact_masks_json(self.exact))
            self.result.notes.append(
                f"{self.inexact} of {self.result.masks} masks are not given back exactly by a YOLO polygon "
                f"({self.wrong_pixels} pixels differ); {EXACT_MASKS} keeps them for sam2kit"
            )


def write_yolo(dataset: Dataset, bundle: FileBundle, result: Conversion) -> None:
    """images/[split/], labels/[split/] and data.yaml; annotated frames of clips become pictures."""
    writer, names = _Writer(bundle, result), PlainNames()
    for sample in dataset.pictures:
        labelled = read_or_skip(sample, result)
        if labelled is not None:
            writer.write(sample.split, str(names.of(sample)), picture_file(sample, labelled.image), labelled)
            result.pictures += 1
    for clip in dataset.clips:
        _write_clip(clip, str(names.of(clip)), writer, result)
    if dataset.clips:
        result.notes.append("YOLO knows no clips: frames without truth, and which mask is which object, are left out")
    if result.pictures:
        writer.finish()


def _write_clip(clip: ClipSample, name: str, writer: _Writer, result: Conversion) -> None:
    for index in clip.truth_frames:
        try:
            labelled = clip.read([index])
        except (ValueError, OSError) as error:
            result.skipped.append(str(error))
            continue
        picture = LabelledPicture(labelled.frames[0], [masks[0] for masks in labelled.masks.values()])
        writer.write(clip.split, f"{name}/{index:05d}", frame_file(clip, index), picture)
        result.pictures += 1


def _corners(mask: np.ndarray) -> str:
    """The mask's outline as shares of width and height.

    They are rounded up: then both rounding and cutting off, as other programs do, give the pixel again.
    """
    line = mask_to_polygon(_largest_parts(mask))
    line = np.concatenate([line, np.repeat(line[-1:], max(0, 3 - len(line)), axis=0)])
    height, width = mask.shape
    return " ".join(f"{_share(x, width)} {_share(y, height)}" for x, y in line.tolist())


def _share(pixel: int, length: int) -> str:
    return f"{math.ceil(pixel * _DIGITS / length) / _DIGITS:.6f}"


def _largest_parts(mask: np.ndarray) -> np.ndarray:
    """The mask without its smallest parts, if there are too many to be joined in reasonable time."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count - 1 <= _MOST_PARTS:
        return mask
    largest = 1 + np.argsort(stats[1:, cv2.CC_STAT_AREA])[-_MOST_PARTS:]
    return np.isin(parts, largest)
