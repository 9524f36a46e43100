"""The masks of a clip as files that other programs read: DAVIS, COCO, YOLO, SA-V, CSV; of a picture as COCO and CSV.

Exports are generators, as those of media/video_exports.py: masks come from a function, so that only one frame's are in
memory, and nothing is on the disk before the last number.

Surprises: formats that want numbers keep ids that are such numbers; others get the lowest that are free, in the order
of the ids (10 after 9, words after numbers), and a table says which id each number was. Frame numbers are those of the
whole clip, in a part of it too.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Hashable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam2kit.data.coco import CocoContent
from sam2kit.data.sav import sav_content
from sam2kit.data.yolo import outline_line, yaml_text
from sam2kit.files import FileBundle, atomic_write, write_json
from sam2kit.media.clip import Clip
from sam2kit.media.mask_files import (
    MAX_NUMBER,
    NamedMask,
    RunLengths,
    binary_image,
    davis_palette,
    jpeg_bytes,
    label_image,
    mask_to_runs,
    overlap,
    overlap_name,
    png_bytes,
)
from sam2kit.media.video_exports import FrameMasksById, MasksOf, Names, Progress, each_frame, part_of
from sam2kit.predict.frame_masks import FrameMasks

_TABLE = ("object", "name", "present", "area", "share", "x", "y", "x0", "y0", "x1", "y1", "predicted_iou")  # pixels


def export_davis(clip: Clip, masks_of: MasksOf, path: str | Path, *, frames: range | None = None) -> Progress:
    """Palette PNGs as the DAVIS data set has them: 00000.png, ...; a pixel is the object's number, 0 is nothing.

    Where objects overlap, the smaller is on top, and objects/NUMBER/00000.png holds each object of that frame alone, so
    that nothing is lost. `objects.json` beside them says which id each number was; ids from 1 to 255 are the numbers
    themselves.

    Args:
        clip: gives the size and the number of frames.
        masks_of: frame number -> object id -> bool [H, W].
        path: a new or empty folder, or a .zip.
        frames: of the clip; None takes all.
    Yields:
        the number of frames done, from 1 on.
    Raises:
        ValueError: if there are more than 255 objects.
    """
    clip, masks_of = part_of(clip, masks_of, frames)
    numbers, palette = number_objects(clip, masks_of, MAX_NUMBER), davis_palette()
    if len(numbers) > MAX_NUMBER:
        raise ValueError(f"a palette picture holds at most {MAX_NUMBER} objects, got {len(numbers)}; use COCO or SA-V")
    with FileBundle(path) as bundle:
        bundle.write("objects.json", json.dumps(_table(numbers)))

        def write(index: int, masks: FrameMasksById) -> None:
            name, numbered = f"{clip.source_frames[index]:05d}.png", {numbers[i]: mask for i, mask in masks.items()}
            bundle.write(name, png_bytes(label_image(numbered, clip.size_hw, palette)))
            for number, mask in numbered.items() if overlap(masks.values()) else ():
                bundle.write(overlap_name(number, name), png_bytes(binary_image(mask)))

        yield from each_frame(clip, masks_of, write)
    yield len(clip)
    lost = [f"{i} is {n}" for i, n in numbers.items() if isinstance(i, (int, np.integer)) and int(i) != n]
    note = f"ids outside 1..{MAX_NUMBER} have other numbers in the PNGs: {', '.join(lost)}; objects.json lists them"
    return (note,) if lost else ()


def export_coco(
    clip: Clip, masks_of: MasksOf, path: str | Path, *, names: Names | None = None, frames: range | None = None
) -> Progress:
    """One COCO JSON: an image entry per frame, run lengths per object and frame, and `track_id` across frames.

    `open_dataset` reads it where the clip lies beside it, under the name in `video`.

    Args:
        clip, masks_of, frames: as for `export_davis`.
        path: of the JSON file, which is replaced at the end.
        names: object id -> name, written into the table of objects; the category is "object" for all.
    Yields:
        the number of frames done, from 1 on.
    """
    clip, masks_of = part_of(clip, masks_of, frames)
    numbers, content = number_objects(clip, masks_of), CocoContent()
    content.category(None)

    def write(index: int, masks: FrameMasksById) -> None:
        frame, seconds = clip.source_frames[index], round(float(clip.timestamps[index]), 6)
        content.add_image(f"{frame:05d}.jpg", clip.size_hw, frame_index=frame, seconds=seconds)
        for object_id, mask in masks.items():
            content.add_mask(mask, None, track_id=numbers[object_id])

    yield from each_frame(clip, masks_of, write)
    video = {"file_name": clip.path.name if clip.path else None}
    write_json({**content.as_dict(), "objects": _table(numbers, names), "video": video}, Path(path))
    yield len(clip)
    return ()


def coco_json(objects: Sequence[NamedMask], file_name: str, size_hw: tuple[int, int]) -> dict[str, Any]:
    """A COCO instance file for one picture, with a category for each name."""
    content = CocoContent()
    content.add_image(file_name, size_hw)
    for item in objects:
        content.add_mask(item.mask, item.name, score=round(item.score, 4))
    return content.as_dict()


def export_yolo(
    clip: Clip, masks_of: MasksOf, path: str | Path, *, names: Names | None = None, frames: range | None = None
) -> Progress:
    """Frames and labels for YOLO: images/00000.jpg, ..., labels/00000.txt, ... with one polygon per object, data.yaml.

    Args:
        clip, masks_of, path, frames: as for `export_davis`.
        names: object id -> class name; an id that is a word is its own name, other objects are of the class "object".
    Yields:
        the number of frames done, from 1 on.
    """
    clip, masks_of = part_of(clip, masks_of, frames)
    numbers = number_objects(clip, masks_of)
    own_name = {object_id: object_id if isinstance(object_id, str) else "object" for object_id in numbers}
    class_of = {object_id: (names or {}).get(object_id) or own_name[object_id] for object_id in numbers}
    classes = list(dict.fromkeys(class_of.values())) or ["object"]
    with FileBundle(path) as bundle:
        bundle.write("data.yaml", yaml_text([None], classes))
        bundle.write("objects.json", json.dumps(_table(numbers, names)))

        def write(index: int, masks: FrameMasksById) -> None:
            lines: list[str] = []
            for object_id, mask in masks.items():
                lines.append(outline_line(classes.index(class_of[object_id]), mask, lines))
            name = f"{clip.source_frames[index]:05d}"
            bundle.write(f"images/{name}.jpg", jpeg_bytes(clip.frame(index)))
            bundle.write(f"labels/{name}.txt", "".join(f"{line}\n" for line in lines))

        yield from each_frame(clip, masks_of, write)
    yield len(clip)
    return ()


def export_sav(clip: Clip, masks_of: MasksOf, path: str | Path, *, frames: range | None = None) -> Progress:
    """One JSON as the SA-V data set has it: `masklet[frame][object]` holds run lengths, empty where it is absent.

    Args:
        clip, masks_of, frames: as for `export_davis`.
        path: of the JSON file, which is replaced at the end.
    Yields:
        the number of frames done, from 1 on.
    """
    clip, masks_of = part_of(clip, masks_of, frames)
    numbers = number_objects(clip, masks_of)
    rows: list[dict[int, RunLengths]] = []

    def write(index: int, masks: FrameMasksById) -> None:
        rows.append({numbers[object_id]: mask_to_runs(mask) for object_id, mask in masks.items()})

    yield from each_frame(clip, masks_of, write)
    ours = {"video_duration": clip.duration, "objects": _table(numbers), "frame_numbers": list(clip.source_frames)}
    video_id = (clip.path or Path(path)).stem
    write_json(sav_content(video_id, clip.size_hw, list(numbers.values()), rows, **ours), Path(path))
    yield len(clip)
    return ()


def export_table(
    clip: Clip, found_on: Callable[[int], FrameMasks], path: str | Path, *, frames: range | None = None
) -> Progress:
    """A CSV table with a line for each frame and object that has an answer there: where and how large it is.

    Objects have the numbers of the other exports.

    Args:
        clip, frames: as for `export_davis`.
        found_on: frame number -> its masks, such as the `masks` of a session.
        path: of the file, which is replaced at the end.
    Yields:
        the number of frames done, from 1 on.
    """
    rows: list[list[Any]] = []
    chosen = range(len(clip)) if frames is None else frames
    for done, index in enumerate(chosen, start=1):
        found, seconds = found_on(index), round(float(clip.timestamps[index]), 6)
        names = found.names or map(str, found.object_ids)
        about = zip(found.object_ids, names, found.predicted_iou.tolist(), found.masks, strict=True)
        for object_id, name, iou, mask in about:
            rows.append([clip.source_frames[index], seconds, object_id, name, *_measured(mask, iou)])
        if done < len(chosen):
            yield done
    numbers = _numbered({row[2] for row in rows if row[4]})
    absent = {row[2] for row in rows} - numbers.keys()
    numbers |= _numbered(absent, taken=set(numbers.values()))
    rows = [[*row[:2], numbers[row[2]], *row[3:]] for row in rows]
    _write_table(["frame", "seconds", *_TABLE], rows, Path(path))
    yield len(chosen)
    return ()


def picture_table(objects: Sequence[NamedMask], path: Path) -> Path:
    """The same table of a picture's objects, which have no frames."""
    rows = [[n, item.name, *_measured(item.mask, item.score)] for n, item in enumerate(objects, start=1)]
    return _write_table(_TABLE, rows, path)


def _measured(mask: np.ndarray, predicted_iou: float) -> list[float | str]:
    """What a mask bool [H, W] is: present, area, share, centroid, box with its last pixels; empty where it is none."""
    area = int(np.count_nonzero(mask))
    if not area:
        return [0, 0, 0, *[""] * 6, round(predicted_iou, 4)]
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    part = mask[y : y + height, x : x + width]
    centre = [round(start + float(np.mean(np.nonzero(part)[axis])), 2) for axis, start in ((1, x), (0, y))]
    box = [x, y, x + width - 1, y + height - 1]
    return [1, area, round(area / mask.size, 6), *centre, *box, round(predicted_iou, 4)]


def _write_table(header: Sequence[str], rows: Sequence[Sequence[object]], path: Path) -> Path:
    with atomic_write(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def number_objects(clip: Clip, masks_of: MasksOf, most: int = 2**31 - 1) -> dict[Hashable, int]:
    """Object id -> its number in files, for all objects that occur; numbers in order, then words in order.

    Whole numbers from 1 to `most` stay as they are; other ids get the lowest numbers that are free. Goes through all
    masks once.
    """
    return _numbered({i for t in range(len(clip)) for i, mask in dict(masks_of(t)).items() if np.any(mask)}, most)


def _numbered(found: Collection[Any], most: int = 2**31 - 1, taken: Collection[int] = ()) -> dict[Hashable, int]:
    """The same for the objects that are given, with numbers that are not taken."""
    kept = {i for i in found if isinstance(i, (int, np.integer)) and 1 <= i <= most and i not in taken}
    free = (number for number in count(1) if number not in kept and number not in taken)
    return {i: int(i) if i in kept else next(free) for i in sorted(found, key=_order)}


def _order(object_id: Hashable) -> tuple[int, int, list[tuple[int, str]]]:
    if isinstance(object_id, (int, np.integer)):
        return 0, int(object_id), []
    parts = re.split(r"([0-9]+)", str(object_id))
    return 1, 0, [(int(part), "") if part.isdecimal() else (0, part) for part in parts]


def _table(numbers: dict[Hashable, int], names: Names | None = None) -> list[dict[str, int | str]]:
    """Number, id and name of each object."""
    rows: list[dict[str, int | str]] = []
    for object_id, number in numbers.items():
        plain = int(object_id) if isinstance(object_id, (int, np.integer)) else str(object_id)
        named = {"name": name} if (name := (names or {}).get(object_id)) else {}
        rows.append({"number": number, "object_id": plain, **named})
    return rows
