"""Pascal VOC: JPEGImages, SegmentationObject (a number per object) and SegmentationClass, and lists in ImageSets.

Where both are there, objects come from SegmentationObject and their classes from SegmentationClass; with classes alone,
everything of one class is one object, unless parts are separated. 255 is the void around objects and belongs to none.
Colours instead of numbers (CVAT writes them, with labelmap.txt) are read as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam2kit.datasets.label_images import VOID, LabelImage, parts_of, read_label_image
from sam2kit.datasets.layouts import folder_called, folders_in, split_named
from sam2kit.datasets.picture_files import FilePicture, PictureSize, TrueMasks, Truth, pictures_in
from sam2kit.datasets.samples import Dataset, Note

FORMAT = "Pascal VOC"
CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_VOID_COLOUR = (224, 224, 192)
Colours = dict[tuple[int, int, int], str]


@dataclass(frozen=True)
class VocTruth(Truth):
    """The label pictures of one picture."""

    objects: Path | None
    classes: Path | None
    colours: tuple[tuple[tuple[int, int, int], str], ...] = ()  # of labelmap.txt
    separate_parts: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """The label pictures that are there."""
        return tuple(path for path in (self.objects, self.classes) if path)

    def read(self, size: PictureSize) -> TrueMasks:
        """One mask per object, or per class where objects are not known."""
        first = self.files[0]
        labels = read_label_image(first, void=VOID, ids=True)
        fitted = size.fit(labels.ids, str(first))
        names = self._class_names(self.classes, size) if self.classes else None
        truth = TrueMasks(notes=[n for n in labels.notes if n.kind not in ("colour_mask", "void")])
        for number in labels.numbers():
            if labels.colours.get(number) == _VOID_COLOUR or self._is_background(labels, number):
                continue
            mask = fitted == number
            for part in parts_of(mask) if self.separate_parts else [mask]:
                truth.add(part, names(part) if names else None)
        return truth

    def _is_background(self, labels: LabelImage, number: int) -> bool:
        colour = labels.colours.get(number)
        return colour is not None and dict(self.colours).get(colour) == "background"

    def _class_names(self, classes: Path, size: PictureSize) -> _ClassNames:
        labels = read_label_image(classes, void=VOID, ids=True)
        return _ClassNames(labels, size.fit(labels.ids, str(classes)), dict(self.colours))


@dataclass(frozen=True)
class _ClassNames:
    """Tells the class of a mask: the one that most of its pixels have."""

    labels: LabelImage
    fitted: np.ndarray
    colours: Colours

    def __call__(self, mask: np.ndarray) -> str | None:
        """Its name; None if no pixel has a class."""
        numbers = self.fitted[mask]
        numbers = numbers[numbers > 0]
        if not len(numbers):
            return None
        found, counts = np.unique(numbers, return_counts=True)
        number = int(found[counts.argmax()])
        if self.labels.colours:
            colour = self.labels.colours[number]
            return self.colours.get(colour, f"#{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}")
        return CLASSES[number] if number < len(CLASSES) and not self.colours else str(number)


def recognises(path: Path) -> bool:
    """Whether there is a SegmentationObject or SegmentationClass folder, here or in VOCdevkit/VOC2012."""
    return path.is_dir() and _root(path) is not None


def open_voc(path: Path, *, separate_parts: bool = False) -> Dataset:
    """All pictures of the lists, or all that have a label picture.

    Args:
        separate_parts: every connected part of a mask is an object of its own.
    """
    root = _root(path) or path
    images = {p.stem: p for p in pictures_in(folder_called(root, ("jpegimages", "images")) or root)}
    objects, classes = (_by_stem(root, name) for name in ("segmentationobject", "segmentationclass"))
    colours = tuple(_labelmap(root).items())
    pictures, notes = [], []
    for stem, split in _listed(root, sorted(objects or classes)).items():
        truth = VocTruth(objects.get(stem), classes.get(stem), colours, separate_parts)
        if stem not in images:
            notes.append(Note("missing", f"{root / 'JPEGImages' / stem}.jpg is not there, though it has masks; add it"))
        elif not truth.files:
            text = f"{images[stem]} is listed in ImageSets but has no mask in SegmentationObject; add it, or unlist it"
            notes.append(Note("no_mask", text))
        else:
            name = images[stem].relative_to(path).as_posix()
            pictures.append(FilePicture(name, images[stem], truth, split))
    named = tuple(name for _, name in colours if name != "background")
    return Dataset(path, FORMAT, pictures, [], [n.text for n in notes], notes, named)


def _root(path: Path) -> Path | None:
    for folder in [path, *folders_in(path), *(f for p in folders_in(path) for f in folders_in(p))]:
        if folder_called(folder, ("segmentationobject", "segmentationclass")):
            return folder
    return None


def _by_stem(root: Path, name: str) -> dict[str, Path]:
    folder = folder_called(root, (name,))
    return {p.stem: p for p in pictures_in(folder)} if folder else {}


def _listed(root: Path, stems: list[str]) -> dict[str, str | None]:
    """Stem -> split, from ImageSets/Segmentation; all stems without a split if there are no lists."""
    folders = [f for f in (root / "ImageSets" / "Segmentation", root / "ImageSets") if f.is_dir()]
    listed: dict[str, str | None] = {}
    for file in sorted(f for f in folders[0].glob("*.txt") if f.is_file()) if folders else []:
        split = split_named(file.stem)
        for line in file.read_text(errors="replace").splitlines():
            if line.strip():
                stem = line.split()[0]
                listed[stem] = split or listed.get(stem)
    return listed or dict.fromkeys(stems)


def _labelmap(root: Path) -> Colours:
    """CVAT's labelmap.txt: lines `name:r,g,b:parts:actions`."""
    file = root / "labelmap.txt"
    colours: Colours = {}
    for line in file.read_text(errors="replace").splitlines() if file.is_file() else []:
        name, _, rest = line.partition(":")
        numbers = rest.split(":")[0].split(",")
        if not line.startswith("#") and len(numbers) == 3 and all(n.strip().isdecimal() for n in numbers):
            red, green, blue = (int(n) for n in numbers)
            colours[red, green, blue] = name
    return colours
