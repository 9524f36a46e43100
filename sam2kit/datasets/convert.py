"""A dataset carried to another format, with every mask as it was.

Each format has its own limits; what it cannot hold is kept in a way that only sam2kit reads back, and said at the end:

    coco    run lengths hold every mask; frames of clips carry their clip's name and the object's track_id
    yolo    one polygon per mask; masks that no polygon gives back are kept in exact_masks.json besides
    davis   one label picture per frame; clips whose objects overlap get one file per object
    sav     run lengths for every annotated frame, null for the others

Pictures become clips of one frame for davis and sav. Picture files are copied as they are, unless they lie sideways.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from sam2kit.datasets.layouts import IMAGE_FOLDERS, split_named
from sam2kit.datasets.picture_files import FilePicture, picture_of
from sam2kit.datasets.samples import ClipSample, Dataset, LabelledPicture, PictureSample, Sample
from sam2kit.media.bundles import FileBundle, png_bytes
from sam2kit.media.pictures import open_image

_WRITERS = {  # format -> room and function
    "coco": ("convert_coco", "write_coco"),
    "yolo": ("convert_yolo", "write_yolo"),
    "davis": ("convert_clips", "write_davis"),
    "sav": ("convert_clips", "write_sav"),
}


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
        format: "coco", "yolo", "davis" or "sav".
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
    room, function = _WRITERS[format]
    result = Conversion(Path(out), format, skipped=list(dataset.skipped))
    with FileBundle(out) as bundle:
        getattr(importlib.import_module(f"sam2kit.datasets.{room}"), function)(dataset, bundle, result)
        if not result.pictures + result.clips:
            raise ValueError(f"no sample of {dataset.path} can be read: {result.skipped[-1]}")
    return result


class PlainNames:
    """Short names that are unique: without folders that only say "images" or "train".

    Args:
        per_split: splits are kept in folders of their own, so that each may use the same names.
    """

    def __init__(self, *, per_split: bool = True) -> None:
        self._per_split = per_split
        self._taken: set[tuple[str | None, str]] = set()

    def of(self, sample: Sample) -> PurePosixPath:
        """Relative, without suffix."""
        path = PurePosixPath(sample.name)
        layout = (*IMAGE_FOLDERS, "jpegimages", "480p", "1080p", "full-resolution")
        kept = [p for p in path.parts[:-1] if p.lower() not in layout and split_named(p) is None]
        # only names of files end in a suffix; a clip's folder may hold a dot
        last = path.stem if path.suffix.lower() in Image.registered_extensions() or path.suffix == ".mp4" else path.name
        plain = wanted = "/".join(_safe(part) for part in (*kept, last))
        number, split = 2, sample.split if self._per_split else None
        while (split, self._joined(plain)) in self._taken:
            plain, number = f"{wanted}_{number}", number + 1
        self._taken.add((split, self._joined(plain)))
        return PurePosixPath(plain)

    @staticmethod
    def _joined(plain: str) -> str:
        """What must be unique: some formats write a name as one folder, and some disks know no capitals."""
        return "__".join(plain.lower().split("/"))


def _safe(part: str) -> str:
    """A part of a name that leads to no other folder, and that every disk takes."""
    plain = re.sub(r"[\x00-\x1f\x7f/\\]", "_", part)
    return "_" if plain in ("", ".", "..") else plain.encode()[:120].decode(errors="ignore")


def read_or_skip(sample: PictureSample, result: Conversion) -> LabelledPicture | None:
    """A picture; None and a sentence if it cannot be used."""
    try:
        return sample.read()
    except (ValueError, OSError) as error:
        result.skipped.append(str(error))
        return None


def picture_file(sample: PictureSample, image: np.ndarray) -> tuple[bytes, str]:
    """The content and suffix of a picture's file: the original, or a PNG if the original lies sideways."""
    if isinstance(sample, FilePicture):
        source = sample.source()
        if isinstance(source, Path) and source.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp", ".webp"):
            picture_of(source, source)  # nothing is copied that is no picture
            with open_image(source) as opened:
                if opened.getexif().get(0x0112, 1) == 1:
                    return source.read_bytes(), source.suffix.lower()
    return png_bytes(Image.fromarray(image)), ".png"


def frame_file(clip: ClipSample, index: int) -> tuple[bytes, str]:
    """The content and suffix of a frame's file: the original, or a PNG if there is none."""
    files = getattr(clip, "frame_files", ())
    if files and files[index].suffix.lower() in (".jpg", ".jpeg", ".png"):
        picture_of(files[index], files[index])
        return files[index].read_bytes(), files[index].suffix.lower()
    return png_bytes(Image.fromarray(clip.frame(index))), ".png"
