"""Clips as folders of frames and folders of masks: DAVIS, MOSE, YouTube-VOS, and SA-V's validation clips.

    JPEGImages/[480p/]<clip>/00000.jpg     Annotations/[480p/]<clip>/00000.png           number = object
    JPEGImages/<clip>/00000.jpg            Annotations/<clip>/<object>/00000.png         one file per object
    train/, valid/, test/ above them, or ImageSets/.../train.txt beside them, name the splits

Beside label pictures, <clip>/objects/<number>/00000.png holds whole objects of frames on which they overlap, as our own
exports have it.

Masks may be fewer than frames: a frame without a file says nothing, except that beside per-object files a missing one
means that the object is absent. Object numbers of 16 bits are taken as they are; 255 next to small ones is void.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from sam2kit.datasets.label_images import VOID, LabelImage, read_label_image
from sam2kit.datasets.layouts import IMAGE_FOLDERS, SPLIT_FOLDERS, folders_in, natural_key, split_named, split_of
from sam2kit.datasets.picture_files import PictureSize, frame_of, pictures_in
from sam2kit.datasets.samples import BadSampleError, ClipSample, Dataset, LabelledClip, Note
from sam2kit.media.exports import overlap_files

FORMAT = "Frame and mask folders (DAVIS, MOSE)"
_FRAMES = ("jpegimages", "jpegimages_24fps", "frames", "images", "rgbframes")
_MASKS = ("annotations", "annotations_6fps", "annotations_unsupervised", "masks", "labels", "gt")
_RESOLUTIONS = ("full-resolution", "1080p", "480p")  # the best first


@dataclass(frozen=True)
class FolderClip(ClipSample):
    """Frames in one folder; masks as label pictures, or as one file per object."""

    name: str
    frame_files: tuple[Path, ...]
    masks: tuple[tuple[int, Path], ...] = ()  # frame, label picture; ascending
    # frame, its (object, mask file); beside label pictures only of frames on which objects overlap
    objects: tuple[tuple[int, tuple[tuple[int, Path], ...]], ...] = ()
    split: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Frames and masks."""
        ours = [path for _, pairs in self.objects for _, path in pairs]
        return (*self.frame_files, *(path for _, path in self.masks), *ours)

    @property
    def picture_files(self) -> tuple[Path, ...]:
        """The frames."""
        return self.frame_files

    @property
    def frame_count(self) -> int:
        """Of all frames, with truth or without."""
        return len(self.frame_files)

    @property
    def truth_frames(self) -> Sequence[int]:
        """Frames that have masks, ascending."""
        return [index for index, _ in self.masks or self.objects]

    @property
    def object_ids(self) -> Sequence[int]:
        """Numbers of all objects; where they are pixel values this reads all label pictures."""
        alone = {number for _, pairs in self.objects for number, _ in pairs}
        return sorted(alone | set(self._numbering().ids if self.masks else ()))

    def frame(self, index: int) -> np.ndarray:
        """One frame, uint8 [H, W, 3].

        Raises:
            BadSampleError: if it cannot be read.
        """
        return frame_of(self.frame_files, index)

    def read(self, frames: Sequence[int]) -> LabelledClip:
        """Some frames and their masks.

        Raises:
            BadSampleError: if a file cannot be read, or sizes differ.
        """
        images = [self.frame(index) for index in frames]
        for index, image in zip(frames, images, strict=True):
            if image.shape != images[0].shape:
                (height, width), (other_height, other_width) = images[0].shape[:2], image.shape[:2]
                text = f"{self.frame_files[index]} is {other_width}x{other_height}, {self.frame_files[frames[0]].name} "
                raise BadSampleError(f"{text}is {width}x{height}; all frames of a clip need one size", "size")
        truths = [self._masks(i, image.shape[:2]) for i, image in zip(frames, images, strict=True)]
        return LabelledClip(np.stack(images), stack_masks(truths, images[0].shape[:2]))

    def _masks(self, index: int, size_hw: tuple[int, int]) -> dict[int, np.ndarray]:
        size = PictureSize(str(self.frame_files[index]), size_hw)
        files = dict(self.objects).get(index, ())
        alone = {number: size.fit(read_label_image(path).ids, str(path)) > 0 for number, path in files}
        if not self.masks:
            return alone
        path = dict(self.masks)[index]
        labels = _numbered(path)
        fitted = size.fit(labels.ids, str(path))
        found = {number: self._numbering().of(labels, number) for number in labels.numbers()}
        return {of_clip: fitted == number for number, of_clip in found.items() if of_clip is not None} | alone

    def _numbering(self) -> _Numbering:
        return _numbering_of(tuple(path for _, path in self.masks))


@dataclass(frozen=True)
class _Numbering:
    """Which object a pixel value means in a whole clip; one frame alone could not tell."""

    ids: list[int]
    colours: list[tuple[int, int, int]]  # object 1, 2, ... where colours stand for objects

    def of(self, labels: LabelImage, number: int) -> int | None:
        """The object that a number of one frame means; None for void."""
        known = self.colours.index(labels.colours[number]) + 1 if number in labels.colours else number
        return known if known in self.ids else None


@lru_cache(maxsize=64)
def _numbering_of(paths: tuple[Path, ...]) -> _Numbering:
    numbers, colours = set(), set()
    for path in paths:
        try:
            labels = _numbered(path)
        except BadSampleError:
            continue  # said when this frame is read
        colours |= {labels.colours[n] for n in labels.numbers() if n in labels.colours}
        numbers |= {n for n in labels.numbers() if n not in labels.colours}
    ids = sorted(numbers | set(range(1, len(colours) + 1)))
    if len(ids) > 1 and ids[-1] == VOID and ids[-2] < 100:
        ids.pop()  # next to small numbers, 255 is what DAVIS draws where nobody can tell
    return _Numbering(ids, sorted(colours))


def stack_masks(truths: Sequence[dict[int, np.ndarray]], size_hw: tuple[int, int]) -> dict[int, np.ndarray]:
    """Object -> bool [T, H, W], of the objects that are seen, from the masks frame by frame."""
    nothing = np.zeros(size_hw, bool)
    seen = sorted({number for masks in truths for number, mask in masks.items() if mask.any()})
    return {number: np.stack([masks.get(number, nothing) for masks in truths]) for number in seen}


def recognises(path: Path) -> bool:
    """Whether there are folders of frames beside folders of masks, clip by clip."""
    return path.is_dir() and bool(_roots(path))


def open_frame_folders(path: Path) -> Dataset:
    """All clips."""
    clips: list[FolderClip] = []
    notes: list[Note] = []
    for frames, masks in _roots(path):
        listed = _listed_splits(frames.parent if frames.name.lower() not in _RESOLUTIONS else frames.parent.parent)
        frame_folders = {f.name: f for f in folders_in(frames)}
        for folder in folders_in(masks):
            if folder.name not in frame_folders:
                text = f"{folder} has no frames: there is no {frames / folder.name}; put the frames there"
                notes.append(Note("missing", text))
                continue
            name = frame_folders[folder.name].relative_to(path).as_posix()
            split = split_of(folder, path) or listed.get(folder.name)
            try:
                clips.append(_clip(name, frame_folders[folder.name], folder, split, notes))
            except BadSampleError as error:
                notes.append(Note(error.kind, str(error)))
        for name in sorted(set(frame_folders) - {f.name for f in folders_in(masks)}):
            text = f"{frame_folders[name]} has no masks: there is no {masks / name}; add them, or remove the clip"
            notes.append(Note("no_mask", text))
    return Dataset(path, FORMAT, [], clips, [note.text for note in notes], notes)


def _roots(path: Path) -> list[tuple[Path, Path]]:
    """(folder of frame folders, folder of mask folders), in `path` and in its split folders."""
    pairs = []
    for folder in [path, *(f for f in folders_in(path) if split_of(f, path))]:
        there = {f.name.lower(): f for f in folders_in(folder)}
        frames = next((there[n] for n in _FRAMES if n in there), None)
        masks = next((there[n] for n in _MASKS if n in there and there[n] != frames), None)
        if frames is None or masks is None:
            continue
        surely = frames.name.lower() not in IMAGE_FOLDERS or frames.name.lower() == _FRAMES[0]
        frames, masks = _resolution(frames, masks)
        if not _is_per_object(frames, masks) and any(_is_clip(frames / f.name, f, surely) for f in folders_in(masks)):
            pairs.append((frames, masks))
    return pairs


def _is_clip(frames: Path, masks: Path, surely: bool) -> bool:
    """Whether two folders hold the frames and the masks of a clip.

    images/cats/tom.jpg with masks/cats/tom.png is no clip; of folders that are not called as DAVIS does, the files must
    be numbered. A folder train/ on both sides belongs to picture and mask folders.
    """
    if masks.name.lower() in SPLIT_FOLDERS or not frames.is_dir():
        return False
    files = pictures_in(frames, deep=False)
    numbered = surely or all(p.stem.isdecimal() for p in files)
    return bool(files) and numbered and bool(pictures_in(masks))


def _is_per_object(frames: Path, masks: Path) -> bool:
    """Whether these are pictures, whose masks lie in a folder for each picture."""
    return bool(pictures_in(frames, deep=False)) and bool(folders_in(masks))


def _resolution(frames: Path, masks: Path) -> tuple[Path, Path]:
    """DAVIS keeps its clips in a folder per resolution; the best one that has both."""
    there, ours = ({f.name.lower(): f for f in folders_in(folder)} for folder in (frames, masks))
    both = [name for name in _RESOLUTIONS if name in there and name in ours]
    return (there[both[0]], ours[both[0]]) if both else (frames, masks)


def _listed_splits(root: Path) -> dict[str, str]:
    """Clip -> split, from ImageSets/**/train.txt, val.txt and test*.txt."""
    splits: dict[str, str] = {}
    for file in sorted(f for f in root.glob("ImageSets/**/*.txt") if f.is_file()):
        split = split_named(file.stem)
        if split is None:
            continue
        for line in file.read_text(errors="replace").splitlines():
            words = line.split()
            if words:  # DAVIS 2016 lists frames: /JPEGImages/480p/bear/00000.jpg ...
                path = Path(words[0])
                splits.setdefault(path.parent.name if path.suffix else path.name, split)
    return splits


def _clip(name: str, frames: Path, masks: Path, split: str | None, notes: list[Note]) -> FolderClip:
    files = tuple(sorted(pictures_in(frames, deep=False), key=lambda p: natural_key(p.name)))
    if not files:
        raise BadSampleError(f"{frames} holds no frames; it needs files such as 00000.jpg", "missing")
    positions = _positions(files)
    pngs = pictures_in(masks, deep=False)
    found: dict[int, list[tuple[int, Path]]] = {}
    strays: list[Path] = []
    numbered = [(n, p) for n, folder in _object_folders(masks) for p in pictures_in(folder)] if not pngs else []
    for number, path in [(0, p) for p in pngs] or numbered:
        index = positions.get(_frame_key(path))
        if index is None:
            strays.append(path)
        else:
            found.setdefault(index, []).append((number, path))
    if strays:
        text = f"{len(strays)} masks such as {strays[0]} have no frame of that name in {frames}; name them alike"
        notes.append(Note("unpaired", text))
    if not found:
        raise BadSampleError(
            f"{masks} has no mask for any frame of {frames}; name them alike: 00000.png, ...", "no_mask"
        )
    ordered = sorted(found.items())
    if pngs:
        labels = tuple((i, pairs[0][1]) for i, pairs in ordered)
        alone = ((i, tuple(overlap_files(path.parent, path.name).items())) for i, path in labels)
        return FolderClip(name, files, labels, tuple((i, pairs) for i, pairs in alone if pairs), split)
    return FolderClip(name, files, objects=tuple((i, tuple(pairs)) for i, pairs in ordered), split=split)


def _object_folders(masks: Path) -> list[tuple[int, Path]]:
    """SA-V calls the folders 000, 001, ...; other names are numbered in order."""
    folders = sorted(folders_in(masks), key=lambda f: natural_key(f.name))
    if all(f.name.isdecimal() for f in folders):
        return [(int(f.name), f) for f in folders]
    return list(enumerate(folders))


def _positions(files: Sequence[Path]) -> dict[int | str, int]:
    return {_frame_key(path): index for index, path in enumerate(files)}


def _frame_key(path: Path) -> int | str:
    """00007.jpg and 7.png are one frame."""
    return int(path.stem) if path.stem.isdecimal() else path.stem


def _numbered(path: Path) -> LabelImage:
    return read_label_image(path, ids=True)
