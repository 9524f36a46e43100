"""A dataset carried to another format, with every mask as it was.

Each format has its own limits; what it cannot hold is kept in a way that only sam2kit reads back, and said at the end:

    coco    run lengths hold every mask; frames of clips carry their clip's name and the object's track_id
    yolo    one polygon per mask; masks that no polygon gives back are kept in exact_masks.json besides
    davis   one label picture per frame; clips whose objects overlap get one file per object
    sav     run lengths for every annotated frame, null for the others
    masks   pictures and mask pictures; annotated frames of clips become pictures

A picture is a clip of one frame for davis and sav. Picture files are copied as they are, unless they lie sideways.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from sam2kit.data.coco import NAMELESS, CocoContent
from sam2kit.data.layouts import IMAGE_FOLDERS, split_named
from sam2kit.data.sample import Dataset, Sample
from sam2kit.data.sav import sav_content
from sam2kit.data.stored import picture_of
from sam2kit.data.yolo import EXACT_MASKS, outline_line, wrong_pixels, yaml_text
from sam2kit.files import FileBundle
from sam2kit.media.mask_files import (
    MAX_NUMBER,
    NamedMask,
    RunLengths,
    binary_image,
    davis_palette,
    label_image,
    mask_image,
    mask_to_runs,
    overlap,
    png_bytes,
    runs_to_mask,
)
from sam2kit.media.pictures import open_image

_COPIED = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass
class Conversion:
    """What was written, and what could not be."""

    path: Path
    format: str
    pictures: int = 0
    clips: int = 0
    masks: int = 0
    notes: list[str] = field(default_factory=list)  # what the format cannot hold, and what was done about it
    skipped: list[str] = field(default_factory=list)  # samples that could not be read

    def text(self) -> str:
        """For people."""
        counts = f"{self.pictures} pictures, {self.clips} clips, {self.masks} masks"
        lines = [f"{self.path}: {counts} as {self.format}", *self.notes]
        if self.skipped:
            lines += [f"{len(self.skipped)} samples were skipped:", *(f"  {text}" for text in self.skipped[:5])]
        return "\n".join(lines)


def convert(dataset: Dataset, format: str, out: str | PathLike[str]) -> Conversion:
    """Write a dataset in another format.

    Args:
        dataset: from `open_dataset`.
        format: "coco", "yolo", "davis", "sav" or "masks".
        out: a new or empty folder, or a file that ends in .zip.
    Returns:
        what was written; samples that cannot be read are skipped and named in it.
    Raises:
        ValueError: if the format is unknown, the folder is not empty, or no sample can be read.
    """
    if format not in _WRITERS:
        raise ValueError(f"cannot convert to {format!r}; known formats: {', '.join(_WRITERS)}")
    if not len(dataset):
        raise ValueError(f"{dataset.path} has no usable sample to convert; `sam2kit data check` says why")
    result = Conversion(Path(out), format, skipped=list(dataset.skipped))
    with FileBundle(out) as bundle:
        _WRITERS[format](dataset, bundle, result)
        if not result.pictures + result.clips:
            raise ValueError(f"no sample of {dataset.path} can be read: {result.skipped[-1]}")
    if format in ("davis", "sav", "masks") and dataset.classes:
        result.notes.append(f"{format} keeps no classes: {_some(dataset.classes)} are left out")
    return result


@dataclass(frozen=True)
class _Masks:
    """The masks of a sample on all its frames, as run lengths, which fit into memory."""

    size_hw: tuple[int, int]
    runs: dict[int, dict[int, RunLengths]]  # frame -> object -> run lengths; a frame with truth may have none
    labels: dict[int, str]

    @classmethod
    def read(cls, sample: Sample) -> _Masks:
        """Frame by frame."""
        runs, labels, size_hw = {}, dict[int, str](), (0, 0)
        for index in sample.truth_frames:
            labelled = sample.read([index])
            size_hw, labels = labelled.image.shape[:2], labels | labelled.labels
            runs[index] = {number: mask_to_runs(masks[0]) for number, masks in labelled.masks.items()}
        return cls(size_hw, runs, labels)

    @property
    def object_ids(self) -> list[int]:
        """Of all objects that are seen."""
        return sorted({number for found in self.runs.values() for number in found})

    def of(self, index: int) -> dict[int, np.ndarray]:
        """Object -> bool [H, W], of the objects that are seen on a frame."""
        return {number: runs_to_mask(runs) for number, runs in self.runs.get(index, {}).items()}


def _each(
    dataset: Dataset, result: Conversion, *, per_split: bool = True
) -> Iterator[tuple[PurePosixPath, Sample, _Masks]]:
    """Each sample with a name that is free and with its masks; what cannot be read is skipped, and the rest counted.

    Args:
        per_split: splits are kept in folders of their own, so that each may use the same names.
    """
    taken: set[tuple[str | None, str]] = set()
    for sample in dataset.samples:
        try:
            masks = _Masks.read(sample)
            sample.frame(sample.frame_count - 1)
        except (ValueError, OSError) as error:
            result.skipped.append(str(error))
            continue
        result.pictures += sample.is_picture
        result.clips += not sample.is_picture
        result.masks += sum(map(len, masks.runs.values()))
        plain = wanted = _plain_name(sample)
        number, split = 2, sample.split if per_split else None
        while (split, _one_folder(plain).lower()) in taken:
            plain, number = PurePosixPath(f"{wanted}_{number}"), number + 1
        taken.add((split, _one_folder(plain).lower()))
        yield plain, sample, masks


def _one_folder(name: PurePosixPath) -> str:
    """A name as a single folder, for formats that know no other; unique where names are."""
    return "__".join(name.parts)


def _plain_name(sample: Sample) -> PurePosixPath:
    """A relative name without folders that only say "images" or "train", and without suffix."""
    path = PurePosixPath(sample.name)
    layout = (*IMAGE_FOLDERS, "jpegimages", "480p", "1080p", "full-resolution")
    kept = [p for p in path.parts[:-1] if p.lower() not in layout and split_named(p) is None]
    # only names of files end in a suffix; a clip's folder may hold a dot
    last = path.stem if path.suffix.lower() in Image.registered_extensions() or path.suffix == ".mp4" else path.name
    # no part leads to another folder, and every disk takes it
    plain = (re.sub(r"[\x00-\x1f\x7f/\\]", "_", part) for part in (*kept, last))
    cut = (part.encode()[:120].decode(errors="ignore") for part in plain)
    return PurePosixPath(*("_" if part in ("", ".", "..") else part for part in cut))


def _copy_frame(sample: Sample, index: int, bundle: FileBundle, place: str) -> str:
    """Write a frame under a name without suffix: the original, or a PNG if there is none, or it lies sideways.

    Returns:
        the suffix.
    """
    files = sample.pixels.files
    if len(files) == sample.frame_count:
        picture_of(files[index], files[index])  # nothing is copied that is no picture
        if may_be_copied(files[index]):
            bundle.write(place + (suffix := files[index].suffix.lower()), files[index].read_bytes())
            return suffix
    bundle.write(f"{place}.png", png_bytes(Image.fromarray(sample.frame(index))))
    return ".png"


def may_be_copied(path: Path) -> bool:
    """Whether a picture file is of a kind that all programs read, and upright."""
    if path.suffix.lower() not in _COPIED:
        return False
    with open_image(path) as opened:
        return opened.getexif().get(0x0112, 1) == 1


def _some(names: tuple[str, ...] | list[str]) -> str:
    """The first three names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _write_coco(dataset: Dataset, bundle: FileBundle, result: Conversion) -> None:
    """images/[split/]..., and annotations/instances.json, or instances_<split>.json where there are splits.

    Frames of clips carry the keys `clip`, `frame_index` and `annotated`, which other programs pass over.
    """
    contents: dict[str | None, CocoContent] = defaultdict(CocoContent)
    for name, sample, masks in _each(dataset, result):
        content, folder = contents[sample.split], f"images/{sample.split}" if sample.split else "images"
        for index in range(sample.frame_count):
            file_name = str(name) if sample.is_picture else f"{name}/{index:05d}"
            file_name += _copy_frame(sample, index, bundle, f"{folder}/{file_name}")
            marks = {"clip": str(name), "frame_index": index, "annotated": index in masks.runs}
            content.add_image(file_name, masks.size_hw, **({} if sample.is_picture else marks))
            for number, mask in masks.of(index).items():
                content.add_mask(mask, masks.labels.get(number), **({} if sample.is_picture else {"track_id": number}))
    for split, content in contents.items():
        file = f"annotations/instances_{split}.json" if split else "annotations/instances.json"
        bundle.write(file, json.dumps(content.as_dict()))


def _write_yolo(dataset: Dataset, bundle: FileBundle, result: Conversion) -> None:
    """images/[split/], labels/[split/] and data.yaml; annotated frames of clips become pictures.

    Every polygon is filled again after it is written; holes come back exactly, but the bridges to further parts of a
    mask are a pixel wide. Masks that come back otherwise are kept in exact_masks.json.
    """
    classes: dict[str, int] = {}
    exact: dict[str, dict[str, RunLengths]] = {}
    splits: dict[str | None, None] = {}
    differ = pictures = 0
    for name, sample, masks in _each(dataset, result):
        splits[sample.split] = None
        for index in sample.truth_frames:
            place = f"{sample.split}/{name}" if sample.split else str(name)
            place += "" if sample.is_picture else f"/{index:05d}"
            lines: dict[str, None] = {}
            for object_id, mask in masks.of(index).items():
                number = classes.setdefault(masks.labels.get(object_id, NAMELESS), len(classes))
                line = outline_line(number, mask, lines)
                lines[line] = None
                if wrong := wrong_pixels(line, mask):
                    differ += wrong
                    exact.setdefault(f"labels/{place}.txt", {})[line] = masks.runs[index][object_id]
            _copy_frame(sample, index, bundle, f"images/{place}")
            bundle.write(f"labels/{place}.txt", "".join(f"{line}\n" for line in lines))
            pictures += 1
    if result.clips:
        result.notes.append("YOLO knows no clips: frames without truth, and which mask is which object, are left out")
    result.pictures, result.clips = pictures, 0
    if exact:
        about = "masks that a YOLO polygon cannot hold exactly; read by sam2kit while the line is unchanged"
        bundle.write(EXACT_MASKS, json.dumps({"about": about, "masks": exact}))
        result.notes.append(
            f"{sum(map(len, exact.values()))} of {result.masks} masks are not given back exactly by a YOLO polygon "
            f"({differ} pixels differ); {EXACT_MASKS} keeps them for sam2kit"
        )
    if pictures:
        bundle.write("data.yaml", yaml_text(splits, classes))


def _write_davis(dataset: Dataset, bundle: FileBundle, result: Conversion) -> None:
    """JPEGImages/<clip>/, Annotations/<clip>/ and ImageSets/<split>.txt."""
    listed: dict[str, list[str]] = defaultdict(list)
    overlapping, shifted, palette = [], [], davis_palette()
    for path, sample, masks in _each(dataset, result, per_split=False):
        name, ids = _one_folder(path), masks.object_ids
        for index in range(sample.frame_count):
            _copy_frame(sample, index, bundle, f"JPEGImages/{name}/{index:05d}")
        shift = 1 if 0 in ids else 0
        apart = max(ids, default=0) + shift > MAX_NUMBER or any(overlap(masks.of(i).values()) for i in masks.runs)
        for index in masks.runs:
            found = masks.of(index)
            if not apart:
                numbered = {number + shift: mask for number, mask in found.items()}
                picture = label_image(numbered, masks.size_hw, palette)
                bundle.write(f"Annotations/{name}/{index:05d}.png", png_bytes(picture))
            for number in ids if apart else ():  # an empty one says that the object is known to be absent
                picture = binary_image(found.get(number, np.zeros(masks.size_hw, bool)))
                bundle.write(f"Annotations/{name}/{number:03d}/{index:05d}.png", png_bytes(picture))
        overlapping += [name] if apart else []
        shifted += [name] if shift and not apart else []
        if sample.split is not None:
            listed[sample.split].append(name)
    for split, names in listed.items():
        bundle.write(f"ImageSets/{split}.txt", "".join(f"{name}\n" for name in names))
    if overlapping:
        result.notes.append(
            f"{len(overlapping)} clips have overlapping objects, or more than 255, which a label picture cannot hold; "
            f"{_some(overlapping)} got one file per object in Annotations/<clip>/<object>, as SA-V's test clips have"
        )
    if shifted:
        result.notes.append(f"in {_some(shifted)} objects count from 1 instead of 0, which means background in DAVIS")


def _write_sav(dataset: Dataset, bundle: FileBundle, result: Conversion) -> None:
    """<clip>/ of frames, and <clip>_manual.json; in a folder for each split."""
    for path, sample, masks in _each(dataset, result):
        name, frames = _one_folder(path), range(sample.frame_count)
        place = f"{sample.split}/{name}" if sample.split else name
        for index in frames:
            _copy_frame(sample, index, bundle, f"{place}/{index:05d}")
        content = sav_content(name, masks.size_hw, masks.object_ids, (masks.runs.get(index) for index in frames))
        bundle.write(f"{place}_manual.json", json.dumps(content))


def _write_masks(dataset: Dataset, bundle: FileBundle, result: Conversion) -> None:
    """images/ and masks/, in a folder for each split; what is read again is what was written.

    images/a.png   masks/a.png            a number per object; black and white if there is only one
    images/b.jpg   masks/b/1.png, 2.png   one file per object, where objects overlap or are too many
    """
    pictures = 0
    for path, sample, masks in _each(dataset, result):
        root = f"{sample.split}/" if sample.split else ""
        for index in masks.runs:
            stem = _one_folder(path) if sample.is_picture else f"{_one_folder(path)}__{index:05d}"
            objects = [NamedMask(str(number), runs) for number, runs in masks.runs[index].items()]
            _copy_frame(sample, index, bundle, f"{root}images/{stem}")
            pictures += 1
            if len(objects) <= MAX_NUMBER and not overlap(one.mask for one in objects):
                both = {f"{root}masks/{stem}.png": objects}
            else:
                both = {f"{root}masks/{stem}/{n}.png": [one] for n, one in enumerate(objects, start=1)}
            for place, shown in both.items():
                bundle.write(place, png_bytes(mask_image(shown)))
    result.pictures, result.clips = pictures, 0


_WRITERS = {
    "coco": _write_coco, "yolo": _write_yolo, "davis": _write_davis, "sav": _write_sav, "masks": _write_masks,
}  # fmt: skip
