"""Folders of pictures and folders of masks, in the ways that people name them; and Pascal VOC, whose names are fixed.

images/a.jpg   masks/a.png                 also labels/, gt/, ...; train/ val/ test/ above or below
photos/a.jpg   photos_masks/a.png          also train_images/ with train_masks/, x/ with x-gt/, ...
a.jpg          a_mask.png                  side by side; also a_image.jpg, a_sat.jpg
images/a.jpg   masks/a/1.png, 2.png        one file per object; also masks/a_0.png, a_1.png
images/img_7.jpg   masks/mask_7.png        a word in front
images/a.jpg   masks/a.png, objects/1/a.png, ...     single objects, where they overlap, as our own exports have them
JPEGImages/a.jpg   SegmentationObject/a.png, SegmentationClass/a.png; lists in ImageSets, CVAT's colours in labelmap.txt

VOC's objects come from SegmentationObject and their classes from SegmentationClass; with classes alone, everything of
one class is one object, unless parts are separated.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from sam2kit.data.label_images import VOID, Colour, LabelImage, check_count, parts_of, read_label_image
from sam2kit.data.layouts import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    Findings,
    folder_called,
    folders_in,
    natural_key,
    split_named,
    split_of,
    text_lines,
)
from sam2kit.data.sample import Dataset, Sample, TrueMasks, Truth
from sam2kit.data.stored import FrameSize, Note, frame_files, pictures_in
from sam2kit.media.mask_files import OVERLAPS

_WORDS = "masks?|gt|ground_?truth|seg|segmentation|labels?|annotations?|matte|labelids|instanceids"
_AFTER = re.compile(rf"(?:[_\-. ](?:{_WORDS})|(?<=\d)masks?)$", re.IGNORECASE)
_PICTURE_AFTER = re.compile(r"[_\-. ](?:images?|img|photo|picture|input|rgb|sat)$", re.IGNORECASE)
_NUMBER = re.compile(rf"[_\-. ](?:(?:{_WORDS}|obj(?:ect)?|inst(?:ance)?)[_\-. ]?)?\d+$", re.IGNORECASE)
_BETWEEN = re.compile(r"[_\-. ]+")
_BEFORE = re.compile(rf"^(?:img|images?|photos?|pictures?|{_WORDS})[_\-. ]?(?=.)", re.IGNORECASE)
_VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_VOC_VOID_COLOUR = (224, 224, 192)
_VOC_MASKS = ("segmentationobject", "segmentationclass")


def recognises(path: Path) -> bool:
    """Whether there are picture and mask folders, or pictures with a mask beside them."""
    if not path.is_dir() or _folder_pairs(path):
        return path.is_dir()
    stems = {p.with_suffix("") for p in pictures_in(path)}
    stems |= {_renamed(stem, _PICTURE_AFTER) for stem in stems}
    return any(_AFTER.search(s.name) and _renamed(s, _AFTER) in stems for s in stems)


def open_mask_folders(path: Path, *, separate_parts: bool = False) -> Dataset:
    """Pictures and masks, paired by name."""
    found = Findings()
    for images, masks in _folder_pairs(path) or [(path, path)]:
        image_files, mask_files = pictures_in(images), pictures_in(masks)
        if images == masks:
            image_files = [p for p in image_files if not _AFTER.search(p.stem)]
            mask_files = [p for p in mask_files if _AFTER.search(p.stem)]
        pairs = _Pairs(images, image_files, found)
        for mask in mask_files:
            pairs.add(mask, mask.relative_to(masks).with_suffix(""))
        for image in sorted(pairs.by_key.values(), key=natural_key):
            truth = pairs.truth(image, masks, separate_parts)
            place = image.relative_to(path)
            split = split_of(image, path) or (split_named(place.parts[0]) if len(place.parts) > 1 else None)
            if truth is not None:
                found.samples.append(Sample(place.as_posix(), frame_files(image), truth, split))
    return found.dataset(path, "Picture and mask folders")


def _read_objects(file: Path, separate_parts: bool, frame: int, size: FrameSize) -> TrueMasks:
    """One mask per number or colour of a file, or per connected part."""
    labels = read_label_image(file)
    truth = TrueMasks(notes=list(labels.notes))
    _add_objects(truth, labels, labels.numbers(), file, separate_parts, size)
    if not truth.masks:
        truth.notes.append(Note("empty", f"{file} is empty: no pixel belongs to an object"))
    return truth


def _add_objects(
    truth: TrueMasks, labels: LabelImage, numbers: list[int], file: Path, separate_parts: bool, size: FrameSize
) -> None:
    check_count(len(numbers), f"objects in {file}")
    fitted = size.fit(labels.ids, str(file))
    for number in numbers:
        mask = fitted == number
        for part in parts_of(mask) if separate_parts else [mask]:
            truth.add(part)


def _read_object_files(files: Sequence[Path], frame: int, size: FrameSize) -> TrueMasks:
    """One mask per file: whatever is not background in it."""
    truth = TrueMasks()
    for path in files:
        labels = read_label_image(path)
        truth.notes += [note for note in labels.notes if note.kind != "colour_mask"]
        truth.add(size.fit(labels.ids, str(path)) > 0)
    return truth


class _Pairs:
    """The masks of every picture, found by name."""

    def __init__(self, images: Path, image_files: list[Path], found: Findings) -> None:
        self.images, self.found = images, found
        self.by_key: dict[Path, Path] = {}
        for image in image_files:
            key = image.relative_to(images).with_suffix("")
            if self.by_key.setdefault(key, image) != image:
                text = f"{image} and {self.by_key[key].name} share one name, so their masks do too; rename one of them"
                found.note("unpaired", text)
        bare = {key: _renamed(_renamed(key, _PICTURE_AFTER), _BEFORE) for key in self.by_key}
        times = Counter(bare.values())
        self.by_bare_key = {bare[k]: image for k, image in self.by_key.items() if times[bare[k]] == 1}
        # of a picture the files of all objects, of one each, and of one each because they overlap
        self.masks: dict[tuple[Path, str], list[Path]] = defaultdict(list)

    def add(self, mask: Path, key: Path) -> None:
        """Give a mask to its picture; `key` is its path in the folder of masks, without suffix."""
        image, kind = self._owner(key)
        if image is None and key.parts[-3:-2] == (OVERLAPS,):
            image, kind = self._owner(Path(*key.parts[:-3], key.name))[0], "apart"
        if image is None:
            text = f"{mask} has no picture: there is no {mask.stem} in {self.images}; name picture and mask alike"
            self.found.note("unpaired", text)
        else:
            self.masks[image, kind].append(mask)

    def _owner(self, key: Path) -> tuple[Path | None, str]:
        """The picture of a mask, and what the mask holds."""
        bare = _renamed(key, _AFTER)
        names = ((key, "all"), (bare, "all"), (_renamed(key, _NUMBER), "one"), (key.parent, "one"))
        found = ((self.by_key[name], kind) for name, kind in names if name in self.by_key)
        return next(found, (self.by_bare_key.get(_renamed(bare, _BEFORE)), "all"))

    def truth(self, image: Path, masks: Path, separate_parts: bool) -> Truth | None:
        """Where the masks of a picture are; None if it has none."""
        whole, single, apart = (self.masks[image, kind] for kind in ("all", "one", "apart"))
        if alone := apart or (single if not whole else []):
            files = tuple(sorted(alone, key=natural_key))
            return Truth(read=partial(_read_object_files, files), files=files, count=len(files))
        if whole:
            if others := (whole[1:] + single)[:3]:
                left = ", ".join(p.name for p in others)
                text = f"{image} has several masks: {whole[0].name} was taken, {left} left out; keep one of them"
                self.found.note("unpaired", text)
            read = partial(_read_objects, whole[0], separate_parts)
            return Truth(read=read, files=(whole[0],), parts_may_be_objects=not separate_parts)
        text = f"{image} has no mask: {masks / (image.stem + '.png')} was looked for; add it, or remove the picture"
        self.found.note("no_mask", text)
        return None


def _folder_pairs(path: Path) -> list[tuple[Path, Path]]:
    """(pictures, masks) in `path` itself, and in its split folders."""
    pairs = []
    for folder in [path, *(f for f in folders_in(path) if split_of(f, path) is not None)]:
        images, masks = folder_called(folder, *IMAGE_FOLDERS), folder_called(folder, *MASK_FOLDERS)
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
    others = [f for f in words if f not in mask_folders and f.name.lower() not in MASK_FOLDERS]
    pairs = []
    for masks in mask_folders:
        rest = [w for w in words[masks] if w not in MASK_FOLDERS]
        near = [f for f in others if words[f] == rest] + [f for f in others if bare[f] == bare[masks]]
        if near and any(pictures_in(near[0])) and any(pictures_in(masks)):
            pairs.append((near[0], masks))
    return pairs


def _renamed(path: Path, without: re.Pattern[str]) -> Path:
    """The same without a part of its name; as it is if nothing else would be left of the name."""
    name = without.sub("", path.name)
    return path.with_name(name) if name else path


def recognises_voc(path: Path) -> bool:
    """Whether there is a SegmentationObject or SegmentationClass folder, here or in VOCdevkit/VOC2012."""
    return path.is_dir() and _voc_root(path) is not None


def open_voc(path: Path, *, separate_parts: bool = False) -> Dataset:
    """All pictures of the lists, or all that have a label picture."""
    root = _voc_root(path) or path
    images = {p.stem: p for p in pictures_in(folder_called(root, "jpegimages", "images") or root)}
    folders = [folder_called(root, name) for name in _VOC_MASKS]
    objects, classes = ({p.stem: p for p in pictures_in(folder)} if folder else {} for folder in folders)
    lines = "\n".join(text_lines(root / "labelmap.txt"))  # CVAT's: `name:r,g,b:parts:actions`
    named = re.findall(r"^([^#:\n][^:\n]*):\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)", lines, re.MULTILINE)
    colours = {(int(red), int(green), int(blue)): name for name, red, green, blue in named}
    found = Findings()
    for stem, split in _listed(root, sorted(objects or classes)).items():
        files = tuple(masks[stem] for masks in (objects, classes) if stem in masks)
        if stem not in images:
            found.note("missing", f"{root / 'JPEGImages' / stem}.jpg is not there, though it has masks; add it")
        elif not files:
            text = f"{images[stem]} is listed in ImageSets but has no mask in SegmentationObject; add it, or unlist it"
            found.note("no_mask", text)
        else:
            read = partial(_read_voc, files[0], classes.get(stem), colours, separate_parts)
            truth = Truth(read=read, files=files, parts_may_be_objects=not separate_parts)
            name = images[stem].relative_to(path).as_posix()
            found.samples.append(Sample(name, frame_files(images[stem]), truth, split))
    found.classes = dict.fromkeys(name for name in colours.values() if name != "background")
    return found.dataset(path, "Pascal VOC")


def _voc_root(path: Path) -> Path | None:
    places = [path, *folders_in(path), *(f for p in folders_in(path) for f in folders_in(p))]
    return next((folder for folder in places if folder_called(folder, *_VOC_MASKS)), None)


def _read_voc(
    file: Path, class_file: Path | None, colours: dict[Colour, str], separate_parts: bool, frame: int, size: FrameSize
) -> TrueMasks:
    """One mask per object, or per class where objects are not known: numbers are what they are, and 255 is void."""
    labels = read_label_image(file, void=VOID, ids=True)
    truth = TrueMasks(notes=[n for n in labels.notes if n.kind not in ("colour_mask", "void")])
    nothing = {_VOC_VOID_COLOUR, *(colour for colour, name in colours.items() if name == "background")}
    numbers = [n for n in labels.numbers() if labels.colours.get(n) not in nothing]
    _add_objects(truth, labels, numbers, file, separate_parts, size)
    if not numbers and read_label_image(file, ids=True).numbers() == [VOID]:
        text = f"{file} holds only 255, which is void in Pascal VOC and belongs to no object"
        truth.notes.append(Note("void", f"{text}; if it is the object, call the folder masks, or give format='masks'"))
    if class_file is not None:
        known = read_label_image(class_file, void=VOID, ids=True)
        fitted = size.fit(known.ids, str(class_file))
        names = {number: _class_of(fitted[mask], known, colours) for number, mask in truth.masks.items()}
        truth.labels = {number: name for number, name in names.items() if name is not None}
    return truth


def _class_of(pixels: np.ndarray, known: LabelImage, colours: dict[Colour, str]) -> str | None:
    """The class that most pixels of a mask have; None if none has any."""
    found, counts = np.unique(pixels[pixels > 0], return_counts=True)
    if not len(found):
        return None
    number = int(found[counts.argmax()])
    if known.colours:
        red, green, blue = known.colours[number]
        return colours.get((red, green, blue), f"#{red:02x}{green:02x}{blue:02x}")
    return _VOC_CLASSES[number] if number < len(_VOC_CLASSES) and not colours else str(number)


def _listed(root: Path, stems: list[str]) -> dict[str, str | None]:
    """Stem -> split, from ImageSets/Segmentation; all stems without a split if there are no lists."""
    folders = [f for f in (root / "ImageSets" / "Segmentation", root / "ImageSets") if f.is_dir()]
    listed: dict[str, str | None] = {}
    for file in sorted(folders[0].glob("*.txt")) if folders else []:
        for line in text_lines(file):
            stem = line.split()[0]
            listed[stem] = split_named(file.stem) or listed.get(stem)
    return listed or dict.fromkeys(stems)
