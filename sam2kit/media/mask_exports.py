"""The masks of a whole clip, as files that other programs read: DAVIS, COCO, YOLO and SA-V.

Like all exports, generators of how many frames are done; see clip_masks.py. Surprises: formats that want numbers keep
ids that are such numbers; others get the lowest that are free, in the order of the ids (10 after 9, words after
numbers), and a table says which id each number was. Frame numbers are those of the whole clip, in a cut of it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from sam2kit.media.bundles import FileBundle, png_bytes
from sam2kit.media.clip_masks import MasksOf, Names, Progress, frames_with_masks, masks_on
from sam2kit.media.clips import Clip
from sam2kit.media.exports import jpeg_bytes, overlap, overlap_name, write_json
from sam2kit.media.polygons import mask_to_polygon
from sam2kit.media.runlengths import compress_runs, mask_to_runs

_MOST_NUMBERS = 255  # in a palette


def export_davis(clip: Clip, masks_of: MasksOf, path: str | Path) -> Progress:
    """Palette PNGs as the DAVIS data set has them: 00000.png, ...; a pixel is the object's number, 0 is nothing.

    Where objects overlap, the lower number wins, and objects/NUMBER/00000.png holds each object of that frame alone, so
    that nothing is lost. `objects.json` beside them says which id each number was; ids from 1 to 255 are the numbers
    themselves.

    Args:
        clip: gives the size and the number of frames.
        masks_of: frame number -> object id -> bool [H, W].
        path: a new or empty folder, or a .zip.
    Yields:
        the number of frames done, from 1 to len(clip).
    Raises:
        ValueError: if there are more than 255 objects.
    """
    numbers = number_objects(clip, masks_of, _MOST_NUMBERS)
    if len(numbers) > _MOST_NUMBERS:
        raise ValueError(f"a palette picture holds at most 255 objects, got {len(numbers)}; use COCO or SA-V")
    with FileBundle(path) as bundle:
        bundle.write("objects.json", json.dumps(_table(numbers)))
        for index in range(len(clip)):
            labels = np.zeros(clip.size_hw, np.uint8)
            masks = masks_on(masks_of, index, clip)
            for object_id in sorted(masks, key=numbers.__getitem__, reverse=True):
                labels[masks[object_id]] = numbers[object_id]
            picture = Image.fromarray(labels)
            picture.putpalette(davis_palette().tobytes())
            name = f"{clip.source_frames[index]:05d}.png"
            bundle.write(name, png_bytes(picture))
            for object_id, mask in masks.items() if overlap(masks.values()) else ():
                alone = Image.fromarray(mask.astype(np.uint8) * 255)
                bundle.write(overlap_name(numbers[object_id], name), png_bytes(alone))
            if index + 1 < len(clip):
                yield index + 1
    yield len(clip)
    lost = [f"{i} is {n}" for i, n in numbers.items() if isinstance(i, (int, np.integer)) and int(i) != n]
    told = f"ids outside 1..{_MOST_NUMBERS} have other numbers in the PNGs: {', '.join(lost)}; objects.json lists them"
    return (told,) if lost else ()


def export_coco(clip: Clip, masks_of: MasksOf, path: str | Path, *, names: Names | None = None) -> Progress:
    """One COCO JSON: an image entry per frame, run lengths per object and frame, and `track_id` across frames.

    `open_dataset` reads it where the clip lies beside it, under the name in `video`.

    Args:
        clip: gives the size, the times and the number of frames.
        masks_of: frame number -> object id -> bool [H, W].
        path: of the JSON file, which is replaced at the end.
        names: object id -> name, written into the table of objects; the category is "object" for all.
    Yields:
        the number of frames done, from 1 to len(clip).
    """
    numbers = number_objects(clip, masks_of)
    height, width = clip.size_hw
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(len(clip)):
        seconds = round(float(clip.timestamps[index]), 6)
        frame = clip.source_frames[index]
        images.append({"id": index + 1, "file_name": f"{frame:05d}.jpg", "width": width, "height": height})
        images[-1] |= {"frame_index": frame, "seconds": seconds}
        for object_id, mask in masks_on(masks_of, index, clip).items():
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": 1,
                    "track_id": numbers[object_id],
                    "segmentation": compress_runs(mask_to_runs(mask)),
                    "area": int(mask.sum()),
                    "bbox": list(cv2.boundingRect(mask.astype(np.uint8))),
                    "iscrowd": 0,
                }
            )
        if index + 1 < len(clip):
            yield index + 1
    content = {
        "images": images,
        "categories": [{"id": 1, "name": "object"}],
        "annotations": annotations,
        "objects": _table(numbers, names),
        "video": {"file_name": clip.path.name if clip.path else None},
    }
    write_json(content, Path(path))
    yield len(clip)
    return ()


def export_yolo(clip: Clip, masks_of: MasksOf, path: str | Path, *, names: Names | None = None) -> Progress:
    """Frames and labels for YOLO: images/00000.jpg, ..., labels/00000.txt, ... with one polygon per object, data.yaml.

    Args:
        clip: gives the frames.
        masks_of: frame number -> object id -> bool [H, W].
        path: a new or empty folder, or a .zip.
        names: object id -> class name; an id that is a word is its own name, other objects are of the class "object".
    Yields:
        the number of frames done, from 1 to len(clip).
    """
    numbers, height, width = number_objects(clip, masks_of), *clip.size_hw
    own_name = {object_id: object_id if isinstance(object_id, str) else "object" for object_id in numbers}
    class_of = {object_id: (names or {}).get(object_id) or own_name[object_id] for object_id in numbers}
    classes = list(dict.fromkeys(class_of.values())) or ["object"]
    with FileBundle(path) as bundle:
        listed = "".join(f"  {i}: {json.dumps(name)}\n" for i, name in enumerate(classes))
        bundle.write("data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{listed}")
        bundle.write("objects.json", json.dumps(_table(numbers, names)))
        for index, picture, masks in frames_with_masks(clip, masks_of):
            lines = []
            for object_id, mask in masks.items():
                corners = mask_to_polygon(mask) / (width, height)
                if len(corners) > 2:  # fewer are no polygon
                    values = " ".join(f"{value:.6f}" for value in corners.ravel())
                    lines.append(f"{classes.index(class_of[object_id])} {values}\n")
            frame = clip.source_frames[index]
            bundle.write(f"images/{frame:05d}.jpg", jpeg_bytes(picture))
            bundle.write(f"labels/{frame:05d}.txt", "".join(lines))
            if index + 1 < len(clip):
                yield index + 1
    yield len(clip)
    return ()


def export_sav(clip: Clip, masks_of: MasksOf, path: str | Path, *, video_id: str | None = None) -> Progress:
    """One JSON as the SA-V data set has it: `masklet[frame][object]` holds run lengths, empty where it is absent.

    Args:
        clip: gives the size, the times and the number of frames.
        masks_of: frame number -> object id -> bool [H, W].
        path: of the JSON file, which is replaced at the end.
        video_id: None takes the clip's file name, or the JSON's.
    Yields:
        the number of frames done, from 1 to len(clip).
    """
    numbers = number_objects(clip, masks_of)
    height, width = clip.size_hw
    nothing = np.zeros(clip.size_hw, bool)
    masklets: list[list[dict[str, Any]]] = []
    seen: dict[Hashable, list[int]] = {object_id: [] for object_id in numbers}
    for index in range(len(clip)):
        masks = masks_on(masks_of, index, clip)
        for object_id in masks:
            seen[object_id].append(index)
        masklets.append([compress_runs(mask_to_runs(masks.get(object_id, nothing))) for object_id in numbers])
        if index + 1 < len(clip):
            yield index + 1
    content = {
        "video_id": video_id or (clip.path or Path(path)).stem,
        "video_duration": clip.duration,
        "video_frame_count": float(len(clip)),
        "video_height": float(height),
        "video_width": float(width),
        "video_resolution": float(height * width),
        "masklet": masklets,
        "masklet_id": list(numbers.values()),
        "masklet_first_appeared_frame": [float(frames[0]) for frames in seen.values()],
        "masklet_frame_count": [len(frames) for frames in seen.values()],
        "masklet_type": ["manual" for _ in numbers],
        "masklet_num": len(numbers),
        "objects": _table(numbers),
        "frame_numbers": list(clip.source_frames),
    }
    write_json(content, Path(path))
    yield len(clip)
    return ()


def number_objects(clip: Clip, masks_of: MasksOf, most: int = 2**31 - 1) -> dict[Hashable, int]:
    """Object id -> its number in files, for all objects that occur; numbers in order, then words in order.

    Whole numbers from 1 to `most` stay as they are; other ids get the lowest numbers that are free. Goes through all
    masks once.
    """
    found = {i for index in range(len(clip)) for i, mask in dict(masks_of(index)).items() if np.any(mask)}
    kept = {i for i in found if isinstance(i, (int, np.integer)) and 1 <= i <= most}
    free = (number for number in count(1) if number not in kept)
    return {i: int(i) if i in kept else next(free) for i in sorted(found, key=_order)}


def davis_palette() -> np.ndarray:
    """uint8 [256, 3] RGB: the colours of DAVIS and PASCAL VOC, made from the bits of the number."""
    numbers = np.arange(256)[:, None]
    palette = np.zeros((256, 3), np.int64)
    for shift in range(8):
        palette |= (numbers >> (3 * shift + np.arange(3)) & 1) << (7 - shift)
    return palette.astype(np.uint8)


def _order(object_id: Hashable) -> tuple[int, int, list[tuple[int, str]]]:
    if isinstance(object_id, (int, np.integer)):
        return 0, int(object_id), []
    parts = re.split(r"([0-9]+)", str(object_id))
    return 1, 0, [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def _table(numbers: dict[Hashable, int], names: Names | None = None) -> list[dict[str, int | str]]:
    names, rows = names or {}, []
    for object_id, number in numbers.items():
        plain = int(object_id) if isinstance(object_id, (int, np.integer)) else str(object_id)
        row: dict[str, int | str] = {"number": number, "object_id": plain}
        if names.get(object_id):
            row["name"] = names[object_id]
        rows.append(row)
    return rows
