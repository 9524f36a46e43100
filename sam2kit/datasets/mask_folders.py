"""Folders of pictures and folders of masks, in the ways that people name them.

images/a.jpg   masks/a.png                 also labels/, gt/, ...; train/ val/ test/ above or below
photos/a.jpg   photos_masks/a.png          also train_images/ with train_masks/, x/ with x-gt/, ...
a.jpg          a_mask.png                  side by side
images/a.jpg   masks/a/1.png, 2.png        one file per object
images/a.jpg   masks/a_0.png, a_1.png      one file per object
images/img_7.jpg   masks/mask_7.png        a word in front
images/a.jpg   masks/a.png, objects/1/a.png, ...     single objects, where they overlap, as our own exports have them
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sam2kit.datasets.label_images import LabelImageTruth, ObjectFilesTruth
from sam2kit.datasets.layouts import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    folder_called,
    folders_in,
    natural_key,
    split_named,
    split_of,
)
from sam2kit.datasets.picture_files import FilePicture, Truth, pictures_in
from sam2kit.datasets.samples import Dataset, Note
from sam2kit.media.exports import OVERLAPS

FORMAT = "Picture and mask folders"
_WORDS = "masks?|gt|ground_?truth|seg|segmentation|labels?|annotations?|matte|labelids|instanceids"
_AFTER = re.compile(rf"[_\-. ](?:{_WORDS})$", re.IGNORECASE)
_NUMBER = re.compile(rf"[_\-. ](?:(?:{_WORDS}|obj(?:ect)?|inst(?:ance)?)[_\-. ]?)?\d+$", re.IGNORECASE)
_BETWEEN = re.compile(r"[_\-. ]+")
_BEFORE = re.compile(rf"^(?:img|images?|photos?|pictures?|{_WORDS})[_\-. ]?(?=.)", re.IGNORECASE)


@dataclass
class _Found:
    """The masks of one picture."""

    whole: list[Path] = field(default_factory=list)
    objects: list[Path] = field(default_factory=list)
    apart: list[Path] = field(default_factory=list)  # the objects of `whole`, because they overlap


def recognises(path: Path) -> bool:
    """Whether there are picture and mask folders, or pictures with a mask beside them."""
    return path.is_dir() and (bool(_folder_pairs(path)) or _side_by_side(path))


def open_mask_folders(path: Path, *, separate_parts: bool = False) -> Dataset:
    """Pictures and masks, paired by name.

    Args:
        separate_parts: every connected part of a mask is an object of its own.
    """
    pictures: list[FilePicture] = []
    notes: list[Note] = []
    for images, masks in _folder_pairs(path) or [(path, path)]:
        if images == masks:
            files = pictures_in(images)
            mask_files = [p for p in files if _AFTER.search(p.stem)]
            image_files = [p for p in files if not _AFTER.search(p.stem)]
        else:
            image_files, mask_files = pictures_in(images), pictures_in(masks)
        found = _pair(images, image_files, masks, mask_files, notes)
        pictures += _samples(path, found, masks, separate_parts, notes)
    return Dataset(path, FORMAT, pictures, skipped=[note.text for note in notes], notes=notes)


def _folder_pairs(path: Path) -> list[tuple[Path, Path]]:
    """(pictures, masks) in `path` itself, and in its split folders."""
    pairs = []
    for folder in [path, *folders_in(path)]:
        if folder != path and split_of(folder, path) is None:
            continue
        images = folder_called(folder, IMAGE_FOLDERS)
        masks = folder_called(folder, MASK_FOLDERS)
        if images and masks and any(pictures_in(masks)):
            pairs.append((images, masks))
        else:
            pairs += _named_pairs(folder)
    return pairs


def _named_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """photos/ with photos_masks/, train_images/ with train_masks/: folders whose names differ by such words only."""
    words = {f: _BETWEEN.split(f.name.lower()) for f in folders_in(folder)}
    bare = {f: [w for w in found if w not in (*IMAGE_FOLDERS, *MASK_FOLDERS)] for f, found in words.items()}
    mask_folders = [f for f, found in words.items() if len(found) > 1 and any(w in MASK_FOLDERS for w in found)]
    pairs = []
    for masks in mask_folders:
        rest = [w for w in words[masks] if w not in MASK_FOLDERS]
        others = [f for f in words if f not in mask_folders and f.name.lower() not in MASK_FOLDERS]
        images = next((f for f in others if words[f] == rest), None)
        images = images or next((f for f in others if bare[f] == bare[masks]), None)
        if images is not None and any(pictures_in(images)) and any(pictures_in(masks)):
            pairs.append((images, masks))
    return pairs


def _side_by_side(path: Path) -> bool:
    stems = {p.with_suffix("") for p in pictures_in(path)}
    return any(_AFTER.search(s.name) and _renamed(s, _AFTER) in stems for s in stems)


def _pair(
    images: Path, image_files: list[Path], masks: Path, mask_files: list[Path], notes: list[Note]
) -> dict[Path, _Found]:
    """The masks of every picture; masks without a picture become notes."""
    owners = _Owners(images, image_files, notes)
    found: dict[Path, _Found] = {image: _Found() for image in owners.by_key.values()}
    for mask in mask_files:
        key = mask.relative_to(masks).with_suffix("")
        owner, is_object = owners.of(key)
        if owner is None and key.parts[-3:-2] == (OVERLAPS,):
            owner, _ = owners.of(Path(*key.parts[:-3], key.name))
            if owner is not None:
                found[owner].apart.append(mask)
                continue
        if owner is None:
            text = f"{mask} has no picture: there is no {mask.stem} in {images}; name picture and mask alike"
            notes.append(Note("unpaired", text))
        else:
            (found[owner].objects if is_object else found[owner].whole).append(mask)
    return found


def _renamed(path: Path, without: re.Pattern[str]) -> Path:
    """The same without a part of its name; as it is if nothing else would be left of the name."""
    name = without.sub("", path.name)
    return path.with_name(name) if name else path


class _Owners:
    """Finds the picture to which a mask belongs."""

    def __init__(self, images: Path, image_files: list[Path], notes: list[Note]) -> None:
        self.by_key: dict[Path, Path] = {}
        for image in image_files:
            key = image.relative_to(images).with_suffix("")
            if key in self.by_key:
                text = f"{image} and {self.by_key[key].name} share one name, so their masks do too; rename one of them"
                notes.append(Note("unpaired", text))
            else:
                self.by_key[key] = image
        bare = Counter(self._bare(key) for key in self.by_key)
        self.by_bare_key = {self._bare(k): image for k, image in self.by_key.items() if bare[self._bare(k)] == 1}

    @staticmethod
    def _bare(key: Path) -> Path:
        return _renamed(key, _BEFORE)

    def of(self, key: Path) -> tuple[Path | None, bool]:
        """The picture of a mask, and whether the mask is one object of several files."""
        whole = (key, _renamed(key, _AFTER))
        parts = (_renamed(key, _NUMBER), key.parent)
        for candidates, is_object in ((whole, False), (parts, True)):
            for candidate in candidates:
                if candidate in self.by_key:
                    return self.by_key[candidate], is_object
        return self.by_bare_key.get(self._bare(whole[1])), False


def _samples(
    root: Path, found: dict[Path, _Found], masks: Path, separate_parts: bool, notes: list[Note]
) -> list[FilePicture]:
    samples = []
    for image, files in found.items():
        if files.apart:
            truth: Truth = ObjectFilesTruth(tuple(sorted(files.apart, key=lambda p: natural_key(str(p)))))
        elif files.whole:
            truth = LabelImageTruth(files.whole[0], separate_parts)
            if len(files.whole) > 1 or files.objects:
                others = ", ".join(p.name for p in (files.whole[1:] + files.objects)[:3])
                text = (
                    f"{image} has several masks: {files.whole[0].name} was taken, {others} left out; keep one of them"
                )
                notes.append(Note("unpaired", text))
        elif files.objects:
            truth = ObjectFilesTruth(tuple(sorted(files.objects, key=lambda p: natural_key(p.name))))
        else:
            text = f"{image} has no mask: {masks / (image.stem + '.png')} was looked for; add it, or remove the picture"
            notes.append(Note("no_mask", text))
            continue
        place = image.relative_to(root)
        split = split_of(image, root) or (split_named(place.parts[0]) if len(place.parts) > 1 else None)
        samples.append(FilePicture(place.as_posix(), image, truth, split))
    return sorted(samples, key=lambda sample: natural_key(sample.name))
