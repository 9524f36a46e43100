"""One JSON per picture: LabelMe, SA-1B, and what Roboflow exports as "SAM 2".

    a.jpg      a.json    = {"shapes": [{"label", "shape_type", "points"}, ...]}                          LabelMe
    sa_1.jpg   sa_1.json = {"image": {"file_name", ...}, "annotations": [{"segmentation": {...}}, ...]}  SA-1B

LabelMe's polygons, rectangles (also turned), circles and painted masks are filled as LabelMe itself fills them, with
Pillow. Shapes of one label with the same group number are one object. Shapes without area (points, lines) say nothing
about masks and are left out, as are those called `__ignore__` or `_background_`. Surprise: a JSON that was renamed or
copied may name a picture that is another's, or nobody's.
"""

from __future__ import annotations

import base64
import binascii
import glob
import io
import math
import os
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sam2kit.data.coco import CocoMasks, crowds_are_objects
from sam2kit.data.layouts import (
    IMAGE_FOLDERS,
    Findings,
    folder_called,
    json_of_kind,
    load_json,
    name_in,
    names_no_object,
    place_of,
    split_of,
)
from sam2kit.data.sample import Dataset, Sample, TrueMasks, Truth
from sam2kit.data.segmentations import check_outlines
from sam2kit.data.stored import BadSampleError, Frames, FrameSize, Note, frame_files, picture_of
from sam2kit.files import MALFORMED
from sam2kit.media.clips import PICTURE_SUFFIXES
from sam2kit.media.pictures import open_image

LABELME, SA1B = "LabelMe JSON", "SA-1B JSON"
_POINTS = {  # shapes with an area, and how many points they need; X-AnyLabeling calls turned rectangles rotation
    "polygon": 3, "rectangle": 2, "circle": 2, "mask": 2, "oriented_rectangle": 3, "rotation": 3,
}  # fmt: skip


def _picture_inside(file: Path, index: int) -> np.ndarray:
    """A picture that LabelMe keeps inside its JSON, which is the only file."""
    try:
        content = base64.b64decode(load_json(file)["imageData"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise BadSampleError(f"{file}: the picture inside it is damaged; put the picture's file beside it") from error
    return picture_of(content, file)


def open_sa1b(path: Path) -> Dataset:
    """All pictures that have such a JSON, by its name or by the name inside it."""
    root = path if path.is_dir() else path.parent

    def sample_of(file: Path) -> Sample:
        picture, truth = _picture_of(file), Truth(read=partial(_read_annotations, file), files=(file,))
        return Sample(name_in(root, picture), frame_files(picture), truth, split_of(file, root))

    return Findings().add_each(json_of_kind(path, "sa1b"), SA1B, sample_of).dataset(path, SA1B)


def _picture_of(file: Path) -> Path:
    """The picture of a JSON's name, which may hold dots, as Roboflow's a_jpg.rf.1234.json; or of the name inside it."""
    beside = (file.with_name(file.stem + suffix) for suffix in (".jpg", *sorted(PICTURE_SUFFIXES)))
    if found := next((p for p in beside if p.is_file()), None):
        return found
    content = load_json(file)
    image = content.get("image") if isinstance(content, dict) else None
    name = Path(str(image.get("file_name", ""))).name if isinstance(image, dict) else ""
    for folder in (file.parent, file.parent / "images", file.parent.parent / "images"):
        if name and (folder / name).is_file():
            return folder / name
    text = f"{file} is about {name or file.stem + '.jpg'}, which is not beside it; put the picture there"
    raise BadSampleError(text, "missing")


def _read_annotations(file: Path, frame: int, size: FrameSize) -> TrueMasks:
    """The masks of an SA-1B JSON, read when the picture is: all of SA-1B would not fit into memory."""
    content = load_json(file)
    image, annotations = content.get("image"), content.get("annotations")
    if not isinstance(image, dict) or not isinstance(annotations, list):
        raise BadSampleError(f'{file} lacks "image" or a list "annotations"; export it again')
    known = [a for a in annotations if isinstance(a, dict)]
    usable = [a for a in known if not a.get("iscrowd") or crowds_are_objects(known)]
    truth = CocoMasks(annotations={0: usable}, source=str(file), image=image).read(0, size)
    if len(usable) < len(known):
        text = f"{file}: {len(known) - len(usable)} crowd regions are left out, each outlines many objects"
        truth.notes.append(Note("crowd", text))
    return truth


def open_labelme(path: Path) -> Dataset:
    """All pictures that have a LabelMe JSON."""
    root = path if path.is_dir() else path.parent
    found, renamed, ignored = Findings(), list[str](), Counter[str]()

    def sample_of(file: Path) -> Sample:
        content = load_json(file)
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            raise BadSampleError(f'{file} has no list "shapes"; save it again in LabelMe')
        sample = _sample(file, content, root, renamed)
        labels = [shape.get("label") if isinstance(shape, dict) else None for shape in content["shapes"]]
        ignored.update(str(label) for label in labels if names_no_object(label))
        meant = [(s, label) for s, label in zip(content["shapes"], labels, strict=True) if not names_no_object(label)]
        if not meant:
            raise BadSampleError(f"{file} outlines no object; outline one, or remove it", "no_mask")
        found.classes |= dict.fromkeys(str(label) for _, label in meant if label)
        outlines = [outline for shape, _ in meant for outline in _outline(shape)]
        found.outlines += [o if isinstance(o, list) and len(o) <= 5 else () for o in outlines]  # long ones are no boxes
        return sample

    found.add_each(json_of_kind(path, "labelme"), LABELME, sample_of).note_ignored(ignored, path)
    if renamed:
        text = f"{path}: {len(renamed)} JSON name a picture that is not theirs, so another was taken: {renamed[0]}"
        found.note("other_picture", text + (", ..." if len(renamed) > 1 else ""))
    return found.dataset(path, LABELME)


def _outline(shape: Any) -> list[Any]:
    """The points of a shape with an area; a circle has none."""
    kind = shape.get("shape_type", "polygon") if isinstance(shape, dict) else None
    if not isinstance(kind, str) or kind not in _POINTS:
        return []
    points = shape.get("points")
    if kind == "rectangle" and isinstance(points, list) and len(points) == 2:
        return [[(0, 0), (1, 0), (1, 1), (0, 1)]]
    return [points if kind != "circle" else []]


def _sample(file: Path, content: dict[str, Any], root: Path, renamed: list[str]) -> Sample:
    """The picture that a JSON is about: the one it names, else the one beside it, else the one inside it.

    Args:
        renamed: takes a sentence if it is another one than the JSON names.
    """
    stated = str(content.get("imagePath") or "").replace("\\", "/")
    candidates = [place_of(stated, file.parent, root), file.parent / Path(stated).name] if stated else []
    named = next((p for p in candidates if p is not None and os.path.isfile(p)), None)
    beside, inside = _picture_beside(file, root), bool(content.get("imageData"))
    if named is not None and ((beside is None and not inside) or _is_of(named, file, content)):
        frames = frame_files(named)
    elif beside is not None and (not inside or _is_of(beside, file, content)):
        frames = frame_files(beside)
        if stated and Path(stated).name.lower() != beside.name.lower():
            renamed.append(f"{file.name} names {Path(stated).name}, and is about {beside.name} beside it")
    elif inside:
        frames = Frames(partial(_picture_inside, file), (file,), 1, True)
        if named is not None:
            renamed.append(f"{file.name} names {named.name}, and is about the picture inside it")
    else:
        text = f"{file} is about {stated or 'a picture without a name'}, which is not beside it; put the picture there"
        raise BadSampleError(text, "missing")
    truth = Truth(read=partial(_read_shapes, file), files=(file,))
    return Sample(file.relative_to(root).as_posix(), frames, truth, split_of(file, root))


def _picture_beside(file: Path, root: Path) -> Path | None:
    """The picture of a JSON's name, beside it or in a folder of pictures next to it."""
    near = [folder_called(p, *IMAGE_FOLDERS) for p in (file.parent, file.parent.parent)]
    for folder in (file.parent, *near):
        if folder is not None and folder.is_relative_to(root):
            found = {p.suffix.lower(): p for p in folder.glob(f"{glob.escape(file.stem)}.*") if p.is_file()}
            if there := [found[suffix] for suffix in sorted(PICTURE_SUFFIXES) if suffix in found]:
                return there[0]
    return None


def _is_of(picture: Path, file: Path, content: dict[str, Any]) -> bool:
    """Whether a JSON is about a picture: not if that is no picture, has another size or a JSON.

    One of the JSON's own name need only have the size, and that only where the JSON holds a picture, too.
    """
    own = picture.stem == file.stem
    if own and not content.get("imageData"):
        return True
    stated = content.get("imageHeight"), content.get("imageWidth")
    try:
        with open_image(picture) as image:
            size_hw = image.height, image.width
    except (OSError, ValueError):
        return False
    fits = not all(isinstance(n, int) for n in stated) or stated in (size_hw, size_hw[::-1])
    return fits and (own or not picture.with_suffix(".json").is_file())


def _read_shapes(file: Path, frame: int, size: FrameSize) -> TrueMasks:
    """One mask per shape or group of a LabelMe JSON; shapes that cannot be read become notes."""
    content = load_json(file)
    sizes = content.get("imageHeight"), content.get("imageWidth")
    truth_hw = size.truth_hw(sizes if all(isinstance(n, int) for n in sizes) else None, str(file))
    truth = TrueMasks()
    areas: dict[tuple[str | None, int | str], np.ndarray] = defaultdict(lambda: np.zeros(truth_hw, bool))
    for number, shape in enumerate(content["shapes"], start=1):
        if isinstance(shape, dict) and names_no_object(shape.get("label")):
            continue
        with truth.noting():
            mask = _mask_of(shape, truth_hw, f"{file}, shape {number}", truth.notes)
            label, group = shape.get("label"), shape.get("group_id")
            areas[label, number if group is None else f"group {group}"] |= mask
    for (label, _), mask in areas.items():
        truth.add(size.fit(mask, str(file)), label)
    return truth


def _mask_of(shape: Any, size_hw: tuple[int, int], name: str, notes: list[Note]) -> np.ndarray:
    """bool [H, W] of one shape."""
    kind = shape.get("shape_type", "polygon") if isinstance(shape, dict) else "nothing"
    try:
        points = np.array(shape["points"], float).reshape(-1, 2)
    except MALFORMED as error:
        raise BadSampleError(f"{name}: its points cannot be read; draw it again", "broken_mask") from error
    if kind not in _POINTS:
        text = f"{name} is a {kind}, which has no area; outline the object as polygon, rectangle, circle or mask"
        raise BadSampleError(text, "box_only")
    if len(points) < _POINTS[kind] or not np.isfinite(points).all():
        text = f"{name}: a {kind} needs {_POINTS[kind]} points or more, got {len(points)}; draw it again"
        raise BadSampleError(text, "broken_mask")
    if kind == "mask":
        return _painted(shape, points, size_hw, name)
    check_outlines([points], size_hw, name, notes)
    canvas = Image.new("1", size_hw[::-1])
    brush = ImageDraw.Draw(canvas)
    if kind == "rectangle":
        brush.rectangle([*points.min(axis=0), *points.max(axis=0)], outline=1, fill=1)
    elif kind == "circle":
        (x, y), radius = points[0], math.dist(points[0], points[1])
        brush.ellipse([x - radius, y - radius, x + radius, y + radius], outline=1, fill=1)
    else:
        brush.polygon([tuple(p) for p in points], outline=1, fill=1)
    return np.array(canvas, bool)


def _painted(shape: dict[str, Any], points: np.ndarray, size_hw: tuple[int, int], name: str) -> np.ndarray:
    """A mask that was painted: a PNG inside the JSON, for the box from its first to its last point."""
    try:
        with open_image(io.BytesIO(base64.b64decode(shape["mask"])), "it") as painted:
            if painted.width > 2 * size_hw[1] + 2 or painted.height > 2 * size_hw[0] + 2:
                raise ValueError("it is far larger than the picture")
            patch = np.array(painted if painted.mode in ("1", "L", "P") else painted.convert("L")).astype(bool)
    except Exception as error:  # broken files fail in many ways
        raise BadSampleError(f"{name}: its painted mask is damaged; paint it again", "broken_mask") from error
    mask = np.zeros(size_hw, bool)
    x, y = (round(float(v)) for v in points.min(axis=0))
    region = mask[max(y, 0) : max(y + patch.shape[0], 0), max(x, 0) : max(x + patch.shape[1], 0)]
    region[:] = patch[max(-y, 0) :, max(-x, 0) :][: region.shape[0], : region.shape[1]]
    return mask
