"""COCO JSON from any dataset: one JSON per split, masks as compressed run lengths.

Frames of clips are pictures with the keys `clip`, `frame_index` and `annotated`; other programs pass them over, and
sam2kit makes clips of them again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import cv2
import numpy as np

from sam2kit.datasets.convert import Conversion, PlainNames, frame_file, picture_file, read_or_skip
from sam2kit.datasets.samples import ClipSample, Dataset
from sam2kit.media.bundles import FileBundle
from sam2kit.media.runlengths import compress_runs, mask_to_runs

NAMELESS = "object"  # class of a mask without one


class _Content:
    """The JSON of one split."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.categories: dict[str, int] = {}

    def add_image(self, file_name: str, size_hw: tuple[int, ...], **more: Any) -> int:
        """Its id."""
        number = len(self.images) + 1
        entry = {"id": number, "file_name": file_name, "height": size_hw[0], "width": size_hw[1]}
        self.images.append(entry | more)
        return number

    def add_mask(self, image_id: int, mask: np.ndarray, label: str | None, **more: Any) -> None:
        """One annotation."""
        category = self.categories.setdefault(label or NAMELESS, len(self.categories) + 1)
        entry = {
            "id": len(self.annotations) + 1,
            "image_id": image_id,
            "category_id": category,
            "segmentation": compress_runs(mask_to_runs(mask)),
            "area": int(np.count_nonzero(mask)),
            "bbox": list(cv2.boundingRect(mask.astype(np.uint8))),
            "iscrowd": 0,
        }
        self.annotations.append(entry | more)

    def text(self) -> str:
        """As JSON."""
        categories = [{"id": number, "name": name} for name, number in self.categories.items()]
        return json.dumps({"images": self.images, "categories": categories, "annotations": self.annotations})


def write_coco(dataset: Dataset, bundle: FileBundle, result: Conversion) -> None:
    """images/[split/]..., and annotations/instances.json, or instances_<split>.json where there are splits."""
    contents: dict[str | None, _Content] = defaultdict(_Content)
    names = PlainNames()
    for sample in dataset.pictures:
        labelled = read_or_skip(sample, result)
        if labelled is None:
            continue
        content, suffix = picture_file(sample, labelled.image)
        name = f"{names.of(sample)}{suffix}"
        bundle.write(_image_path(sample.split, name), content)
        ours = contents[sample.split]
        image_id = ours.add_image(name, labelled.image.shape)
        labels = labelled.labels or [None] * len(labelled.masks)
        for mask, label in zip(labelled.masks, labels, strict=True):
            ours.add_mask(image_id, mask, label)
        result.pictures += 1
        result.masks += len(labelled.masks)
    for clip in dataset.clips:
        _write_clip(clip, f"{names.of(clip)}", contents[clip.split], bundle, result)
    for split, of_split in contents.items():
        name = f"annotations/instances_{split}.json" if split else "annotations/instances.json"
        bundle.write(name, of_split.text())


def _image_path(split: str | None, name: str) -> str:
    return f"images/{split}/{name}" if split else f"images/{name}"


def _write_clip(clip: ClipSample, name: str, content: _Content, bundle: FileBundle, result: Conversion) -> None:
    truth = set(clip.truth_frames)
    try:
        clip.frame(0)  # a clip that cannot be read leaves nothing behind
        for index in sorted(truth):
            clip.read([index])
    except (ValueError, OSError) as error:
        result.skipped.append(str(error))
        return
    for index in range(clip.frame_count):
        file, suffix = frame_file(clip, index)
        file_name = f"{name}/{index:05d}{suffix}"
        bundle.write(_image_path(clip.split, file_name), file)
        labelled = clip.read([index]) if index in truth else None
        size_hw = (labelled.frames[0] if labelled else clip.frame(index)).shape
        marks = {"clip": name, "frame_index": index, "annotated": index in truth}
        image_id = content.add_image(file_name, size_hw, **marks)
        for number, masks in labelled.masks.items() if labelled else ():
            content.add_mask(image_id, masks[0], None, track_id=number)
            result.masks += 1
    result.clips += 1
