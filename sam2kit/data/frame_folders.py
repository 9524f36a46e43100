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

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sam2kit.data.label_images import VOID, Colour, read_label_image
from sam2kit.data.layouts import (
    IMAGE_FOLDERS,
    SPLIT_FOLDERS,
    Findings,
    by_name,
    folders_in,
    split_named,
    split_of,
    text_lines,
)
from sam2kit.data.sample import Dataset, Sample, TrueMasks, Truth
from sam2kit.data.stored import BadSampleError, FrameSize, frame_files, pictures_in
from sam2kit.media.mask_files import overlap_files

FORMAT = "Frame and mask folders (DAVIS, MOSE)"
_FRAMES = ("jpegimages", "jpegimages_24fps", "frames", "images", "rgbframes")
_MASKS = ("annotations", "annotations_6fps", "annotations_unsupervised", "masks", "labels", "gt")
_RESOLUTIONS = ("full-resolution", "1080p", "480p")  # DAVIS keeps its clips in a folder for each; the best first


def recognises(path: Path) -> bool:
    """Whether there are folders of frames beside folders of masks, clip by clip."""
    return path.is_dir() and bool(_roots(path))


def open_frame_folders(path: Path) -> Dataset:
    """All clips."""
    found = Findings()
    for frames, masks in _roots(path):
        listed = _listed_splits(frames.parent if frames.name.lower() not in _RESOLUTIONS else frames.parent.parent)
        frame_folders = {f.name: f for f in folders_in(frames)}
        mask_folders = {f.name: f for f in folders_in(masks)}
        for name, folder in mask_folders.items():
            if name not in frame_folders:
                text = f"{folder} has no frames: there is no {frames / name}; put the frames there"
                found.note("missing", text)
                continue
            with found.noting(folder, "a folder of masks"):
                split = split_of(folder, path) or listed.get(name)
                sample_name = frame_folders[name].relative_to(path).as_posix()
                found.samples.append(_clip(sample_name, frame_folders[name], folder, split, found))
        for name in sorted(set(frame_folders) - set(mask_folders)):
            text = f"{frame_folders[name]} has no masks: there is no {masks / name}; add them, or remove the clip"
            found.note("no_mask", text)
    return found.dataset(path, FORMAT)


@dataclass(frozen=True)
class _ClipMasks:
    """A label picture for each frame, or one file per object; or both, on frames where objects overlap."""

    labels: dict[int, Path]  # frame -> label picture
    objects: dict[int, dict[int, Path]]  # frame -> object -> mask file

    def ids(self) -> list[int]:
        """Of all objects; where they are pixel values this reads all label pictures."""
        alone = {number for files in self.objects.values() for number in files}
        return sorted(alone | set(_objects_of(tuple(self.labels.values())).values()))

    def read(self, frame: int, size: FrameSize) -> TrueMasks:
        """The objects of one frame."""
        truth = TrueMasks()
        if frame in self.labels:
            path, object_of = self.labels[frame], _objects_of(tuple(self.labels.values()))
            found = read_label_image(path, ids=True)
            truth.notes += [note for note in found.notes if note.kind == "soft_mask"]
            fitted = size.fit(found.ids, str(path))
            for number in found.numbers():
                if (value := found.colours.get(number, number)) in object_of:
                    truth.add(fitted == number, number=object_of[value])
        for number, path in self.objects.get(frame, {}).items():
            truth.add(size.fit(read_label_image(path).ids, str(path)) > 0, number=number)
        return truth


@lru_cache(maxsize=64)
def _objects_of(paths: tuple[Path, ...]) -> dict[int | Colour, int]:
    """Which object a number or a colour means in a whole clip; one frame alone could not tell."""
    numbers, colours = set[int](), set[Colour]()
    for path in paths:
        try:
            labels = read_label_image(path, ids=True)
        except BadSampleError:
            continue  # said when this frame is read
        colours |= {labels.colours[n] for n in labels.numbers() if n in labels.colours}
        numbers |= {n for n in labels.numbers() if n not in labels.colours}
    known = {colour: n for n, colour in enumerate(sorted(colours), start=1)} | {n: n for n in numbers}
    ids = sorted(set(known.values()))
    if len(ids) > 1 and ids[-1] == VOID and ids[-2] < 100:
        # next to small numbers, 255 is what DAVIS draws where nobody can tell
        return {value: number for value, number in known.items() if number != VOID}
    return known


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
        there, ours = ({f.name.lower(): f for f in folders_in(folder)} for folder in (frames, masks))
        if both := [name for name in _RESOLUTIONS if name in there and name in ours]:
            frames, masks = there[both[0]], ours[both[0]]
        # pictures, whose masks lie in a folder for each picture, are no clips
        per_picture = bool(pictures_in(frames, deep=False)) and bool(folders_in(masks))
        if not per_picture and any(_is_clip(frames / f.name, f, surely) for f in folders_in(masks)):
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


def _listed_splits(root: Path) -> dict[str, str]:
    """Clip -> split, from ImageSets/**/train.txt, val.txt and test*.txt."""
    splits: dict[str, str] = {}
    for file in sorted(root.glob("ImageSets/**/*.txt")):
        if split := split_named(file.stem):
            for line in text_lines(file):  # DAVIS 2016 lists frames: /JPEGImages/480p/bear/00000.jpg ...
                path = Path(line.split()[0])
                splits.setdefault(path.parent.name if path.suffix else path.name, split)
    return splits


def _clip(name: str, frames: Path, masks: Path, split: str | None, found: Findings) -> Sample:
    files = by_name(pictures_in(frames, deep=False))
    if not files:
        raise BadSampleError(f"{frames} holds no frames; it needs files such as 00000.jpg", "missing")
    positions = {_frame_key(path): index for index, path in enumerate(files)}
    labels: dict[int, Path] = {}
    objects: dict[int, dict[int, Path]] = {}
    strays: list[Path] = []
    mask_files: list[tuple[int | None, Path]] = [(None, path) for path in pictures_in(masks, deep=False)]
    folders = by_name(folders_in(masks)) if not mask_files else []
    numbered = all(f.name.isdecimal() for f in folders)  # as SA-V does; other names are numbered in order
    for place, folder in enumerate(folders):
        mask_files += [(int(folder.name) if numbered else place, path) for path in pictures_in(folder)]
    for number, path in mask_files:
        index = positions.get(_frame_key(path))
        if index is None:
            strays.append(path)
        elif number is None:
            labels.setdefault(index, path)
        else:
            objects.setdefault(index, {})[number] = path
    if strays:
        text = f"{len(strays)} masks such as {strays[0]} have no frame of that name in {frames}; name them alike"
        found.note("unpaired", text)
    if not labels and not objects:
        text = f"{masks} has no mask for any frame of {frames}; name them alike: 00000.png, ..."
        raise BadSampleError(text, "no_mask")
    known = sorted(labels or objects)
    labels = {index: labels[index] for index in known if index in labels}
    overlaps = {index: overlap_files(path.parent, path.name) for index, path in labels.items()}
    objects |= {index: alone for index, alone in overlaps.items() if alone}
    all_files = (*labels.values(), *(path for of_frame in objects.values() for path in of_frame.values()))
    clip_masks = _ClipMasks(labels, objects)
    truth = Truth(read=clip_masks.read, files=all_files, frames=known, ids=clip_masks.ids)
    return Sample(name, frame_files(*files), truth, split)


def _frame_key(path: Path) -> int | str:
    """00007.jpg and 7.png are one frame."""
    return int(path.stem) if path.stem.isdecimal() else path.stem
