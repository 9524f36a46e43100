"""Finished masks as files that other programs read: PNG, cut-out with alpha, COCO JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sam2kit.files import written_whole
from sam2kit.media.drawing import colour_of
from sam2kit.media.runlengths import compress_runs, mask_to_runs, runs_to_mask

OVERLAPS = "objects"  # OVERLAPS/NUMBER/NAME.png: one object of NAME.png, which cannot show where objects overlap


@dataclass(frozen=True)
class NamedMask:
    """One object's finished mask, kept as run lengths: hundreds of a phone photo fit into memory."""

    name: str
    runs: dict[str, Any]  # uncompressed COCO run lengths
    score: float = 1.0  # predicted IoU, 0..1

    @classmethod
    def of(cls, name: str, mask: np.ndarray, score: float = 1.0) -> NamedMask:
        """From a bool [H, W] mask."""
        return cls(name, mask_to_runs(mask), score)

    @property
    def mask(self) -> np.ndarray:
        """bool [H, W]."""
        return runs_to_mask(self.runs)

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return sum(self.runs["counts"][1::2])


def mask_image(objects: Sequence[NamedMask]) -> Image.Image:
    """One object: black and white. Several: a palette PNG whose pixel value is the object's number from 1.

    Where objects overlap, the earlier one wins; see `overlap_name` for what it hides.
    """
    if len(objects) == 1:
        return Image.fromarray(objects[0].mask.astype(np.uint8) * 255)
    if len(objects) > 255:
        raise ValueError(f"a palette image holds at most 255 objects, got {len(objects)}; use COCO JSON")
    labels = np.zeros(objects[0].runs["size"], np.uint8)
    for number in range(len(objects), 0, -1):
        labels[objects[number - 1].mask] = number
    image = Image.fromarray(labels)
    colours = [channel for i in range(len(objects)) for channel in colour_of(i)]
    image.putpalette([0, 0, 0, *colours])
    return image


def overlap(masks: Iterable[np.ndarray]) -> bool:
    """Whether any two of the masks, bool [H, W], share a pixel: a palette picture cannot show that."""
    covered: np.ndarray | None = None
    for mask in masks:
        if covered is None:
            covered = mask.copy()
        elif (covered & mask).any():
            return True
        else:
            covered |= mask
    return False


def overlap_name(number: int, name: str) -> str:
    """Where one object's black and white picture lies, beside a palette picture of overlapping objects.

    Args:
        number: of the object in the palette picture.
        name: of the palette picture's file.
    """
    return f"{OVERLAPS}/{number}/{name}"


def overlap_files(folder: Path, name: str) -> dict[int, Path]:
    """The pictures of single objects that lie beside a palette picture of overlapping objects; by number.

    Args:
        folder: of the palette picture.
        name: of its file.
    """
    apart = folder / OVERLAPS
    numbered = (f for f in apart.iterdir() if f.name.isdecimal()) if apart.is_dir() else ()
    return {int(f.name): f / name for f in sorted(numbered, key=lambda f: int(f.name)) if (f / name).is_file()}


def cut_out(picture: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The object alone on a transparent ground, cropped to its box, with a soft edge of about one pixel.

    Raises:
        ValueError: if the mask is empty.
    """
    if not mask.any():
        raise ValueError("the mask is empty: there is nothing to cut out")
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7) * 255
    alpha = np.where(mask, np.maximum(soft, 128), np.minimum(soft, 127)).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    x0, y0 = max(x - 2, 0), max(y - 2, 0)
    x1, y1 = x + width + 2, y + height + 2
    return Image.fromarray(np.dstack([picture, alpha])[y0:y1, x0:x1])


def coco_json(objects: Sequence[NamedMask], file_name: str, size_hw: tuple[int, int]) -> dict[str, Any]:
    """A COCO instance file for one picture; masks as compressed run lengths, which lose nothing."""
    height, width = size_hw
    categories = {name: i for i, name in enumerate(dict.fromkeys(o.name for o in objects), start=1)}
    annotations = []
    for i, item in enumerate(objects, start=1):
        x, y, w, h = cv2.boundingRect(item.mask.astype(np.uint8))
        annotations.append(
            {
                "id": i,
                "image_id": 1,
                "category_id": categories[item.name],
                "segmentation": compress_runs(item.runs),
                "area": item.area,
                "bbox": [x, y, w, h],
                "iscrowd": 0,
                "score": round(item.score, 4),
            }
        )
    return {
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "categories": [{"id": i, "name": name} for name, i in categories.items()],
        "annotations": annotations,
    }


def jpeg_bytes(picture: np.ndarray) -> bytes:
    """uint8 [H, W, 3] as JPEG that is good enough to learn from."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def write_image(image: Image.Image, path: Path) -> Path:
    """Save a picture; a file that is there is replaced only when the new one is complete."""
    with written_whole(path) as unfinished:
        image.save(unfinished, format=Image.registered_extensions()[path.suffix.lower()])
    return path


def write_json(content: dict[str, Any] | list[Any], path: Path) -> Path:
    """Save JSON; a file that is there is replaced only when the new one is complete."""
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(content), encoding="utf-8")
    return path
