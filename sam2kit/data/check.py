"""A look at every sample before training: what is there, what would make training fail, and how to put it right.

Pictures are read by several threads; of clips, a few frames each. Nothing stops at the first mistake: everything that
is wrong is listed by name, the same mistakes together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os import PathLike

import cv2
import numpy as np

from sam2kit.data.opening import open_dataset
from sam2kit.data.report import CLIP_FRAMES, FULL_SHARE, KINDS, TINY_AREA, Problem, Report
from sam2kit.data.sample import Dataset, LabelledFrames, Sample
from sam2kit.data.splitting import groups_of_agreeing, split, thumbnail_of
from sam2kit.data.stored import BadSampleError, Note
from sam2kit.hardware import usable_cores

_MANY_COLOURS = 25  # objects of one colour mask
_LOOKED_AT = 6  # frames of each clip
_CURE = "save it as PNG with one flat colour per object, without smoothing"


@dataclass
class _Examined:
    """What is remembered of one sample once its pixels are gone."""

    sample: Sample
    size_hw: tuple[int, int] | None = None  # None if the sample cannot be used
    shares: list[float] = field(default_factory=list)  # area of each mask, of the picture
    objects: int = 0
    thumbnail: np.ndarray | None = None
    notes: list[Note] = field(default_factory=list)
    scattered: list[str] = field(default_factory=list)  # a sentence for each mask that has several large parts

    def note(self, kind: str, text: str) -> None:
        self.notes.append(Note(kind, text))


def check_dataset(
    dataset: Dataset | str | PathLike[str], *, format: str | None = None, separate_parts: bool = False
) -> Report:
    """Read all samples and say what is wrong.

    Args:
        dataset: or its path.
        format, separate_parts: as for `open_dataset`, if a path is given.
    Returns:
        the report; `has_errors` says whether to stop here.
    Raises:
        FileNotFoundError, ValueError: if no known format is at the path.
    """
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset, format=format, separate_parts=separate_parts)
    with ThreadPoolExecutor(usable_cores()) as pool:
        found = list(pool.map(_examine, dataset.samples))
    notes = [*dataset.notes, *(note for one in found for note in one.notes), *_same_pictures(found)]
    notes += _of_all(dataset, found, bool(notes))
    return _report(dataset, found, notes)


def _examine(sample: Sample) -> _Examined:
    """Read a picture, or a few frames of a clip, and look at the masks."""
    found, frames = _Examined(sample), list(sample.truth_frames)
    if not sample.is_picture and 0 < len(frames) < CLIP_FRAMES:
        text = f"{sample.name} has {len(frames)} annotated frames; training takes {CLIP_FRAMES} at a time"
        found.note("short", text)
    chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, min(_LOOKED_AT, len(frames))).astype(int))]
    try:
        if not chosen:
            raise BadSampleError(f"{sample.name} has no annotated frame; annotate it, or remove it", "no_mask")
        labelled, notes = sample.examine(chosen)
    except (ValueError, OSError) as error:
        is_named = sample.name.rsplit("/", 1)[-1].split(".")[0] in str(error)
        found.note(getattr(error, "kind", "unreadable"), str(error) if is_named else f"{sample.name}: {error}")
        return found
    found.notes += notes
    found.size_hw = labelled.image.shape[:2]
    (_look_at_picture if sample.is_picture else _look_at_clip)(found, labelled)
    return found


def _look_at_picture(found: _Examined, labelled: LabelledFrames) -> None:
    found.thumbnail = thumbnail_of(labelled.image)
    _look_at_masks(found, labelled.picture_masks, found.sample.name)
    if found.sample.truth.parts_may_be_objects:
        parts = [(number, _large_parts(mask)) for number, mask in enumerate(labelled.picture_masks, start=1)]
        found.scattered = [f"mask {n} of {found.sample.name} in {count}" for n, count in parts if count > 1]


def _look_at_clip(found: _Examined, labelled: LabelledFrames) -> None:
    name, seen = found.sample.name, labelled.seen().masks
    if not seen:
        found.note("empty", f"{name} shows no object on the {len(labelled.frames)} frames that were read")
    for number, masks in seen.items():
        _look_at_masks(found, [mask for mask in masks if mask.any()], f"{name}, object {number}")
    found.objects = len(seen)


def _large_parts(mask: np.ndarray) -> int:
    """Connected parts of a mask that are no specks beside the largest."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return int((areas >= max(TINY_AREA, areas.max(initial=0) / 4)).sum())


def _look_at_masks(found: _Examined, masks: Sequence[np.ndarray], name: str) -> None:
    areas = [int(np.count_nonzero(mask)) for mask in masks]
    pixels = masks[0].size if masks else 0
    found.shares += [area / pixels for area in areas if area]
    found.objects += sum(area > 0 for area in areas)
    for number, area in enumerate(areas, start=1):
        if area == 0:
            found.note("empty", f"{name}: mask {number} is empty and is passed over; outline the object")
        elif area < TINY_AREA and pixels > 40 * TINY_AREA:
            text = f"{name}: mask {number} has {area} pixels, hard to learn; remove it if it is a slip of the brush"
            found.note("tiny", text)
        elif area >= FULL_SHARE * pixels:
            text = f"{name}: mask {number} covers {area / pixels:.0%} of the picture; is background marked as object?"
            found.note("full", text)
    if any(note.kind == "colour_mask" for note in found.notes) and len(masks) > _MANY_COLOURS:
        text = f"{name}: its colour mask was read as {len(masks)} objects, one per colour; if that is too many, {_CURE}"
        found.note("many_objects", text)
    different = {np.packbits(mask).tobytes() for mask, area in zip(masks, areas, strict=True) if area}
    if twice := sum(map(bool, areas)) - len(different):
        found.note("twice", f"{name}: {twice} of its masks repeat another one; remove the copies")


def _same_pictures(found: Sequence[_Examined]) -> list[Note]:
    """Duplicates, and leakage where they lie in different splits."""
    paths = [next(iter(f.sample.pixels.files), None) for f in found]
    notes = []
    for group in groups_of_agreeing(paths, [f.thumbnail for f in found]):
        if len(group) < 2:
            continue
        samples = [found[i].sample for i in group]
        names = ", ".join(sample.name for sample in samples[:3]) + (" ..." if len(group) > 3 else "")
        splits = {sample.split for sample in samples if sample.split is not None}
        if len(splits) > 1:
            text = f"{names} show the same picture in {' and '.join(sorted(splits))}; keep it in one of them"
            notes.append(Note("leakage", f"{text}, or the held-out score is flattered"))
        else:
            notes.append(Note("duplicate", f"{names} show the same picture; keep one of them"))
    return notes


def _of_all(dataset: Dataset, found: Sequence[_Examined], said_why: bool) -> list[Note]:
    """What only all samples together show.

    Args:
        said_why: whether something else is said of the dataset, too.
    """
    usable = [f for f in found if f.objects]
    if not usable:
        file = next((file for f in found for file in f.sample.truth.files), None)
        held = f"{len(found)} samples, but their labels outline no object, such as {file}" if file else "no samples"
        why = "see below" if said_why else f"it holds {held}; add pictures with masks"
        return [Note("nothing", f"{dataset.path}: no sample has a picture and a mask that can be used; {why}")]
    notes = _cannot_be_split(dataset, {f.sample.name for f in usable})
    scattered, masks = [text for f in found for text in f.scattered], sum(f.objects for f in usable)
    if 2 * len(scattered) > masks:
        text = f"{dataset.path}: {len(scattered)} of {masks} masks have several separate parts ({scattered[0]}, ...)"
        cure = "give --separate-parts if each part is an object of its own; else all of them together are one object"
        notes.append(Note("parts", f"{text}; {cure}"))
    empty = sum(note.kind == "empty" for f in found for note in f.notes)
    shares = np.array([share for f in found for share in f.shares])
    if empty > len(shares):
        text = f"{dataset.path}: {empty} masks are empty and {len(shares)} are not; were they exported with all labels?"
        notes.append(Note("mostly_empty", text))
    if np.mean(shares >= FULL_SHARE) > 0.8:
        text = f"{dataset.path}: nearly all masks cover their whole picture; are black and white swapped?"
        notes.append(Note("all_full", text))
    return notes


def _cannot_be_split(dataset: Dataset, usable: set[str]) -> list[Note]:
    """Whether training would have nothing to learn from, or nothing to hold out."""
    if len(usable) == 1:
        text = f"{dataset.path} has one usable sample; add more, so that some can be held out: training needs two"
        return [Note("few", text)]
    if len(usable) == len(dataset):
        return []
    for part, what in zip(split(dataset), ("to learn from", "to hold out"), strict=True):
        if not any(sample.name in usable for sample in part.samples):
            names = ", ".join(sample.name for sample in part.samples[:3])
            text = f"{dataset.path}: of the samples {what} none can be used ({names}); mend them, or split anew"
            return [Note("few", text)]
    return []


def _report(dataset: Dataset, found: Sequence[_Examined], notes: Sequence[Note]) -> Report:
    texts = {kind: tuple(dict.fromkeys(note.text for note in notes if note.kind == kind)) for kind in KINDS}
    usable = [f for f in found if f.size_hw]
    shares, objects = [share for f in usable for share in f.shares], [f.objects for f in usable]
    return Report(
        dataset.describe(),
        tuple(Problem(kind, sentences) for kind, sentences in texts.items() if sentences),
        {
            "pictures": sum(f.sample.is_picture for f in usable),
            "clips": sum(not f.sample.is_picture for f in usable),
            "masks": len(shares),
            "unusable": len(found) - len(usable) + len(dataset.skipped),
        },
        tuple(Counter(f"{f.size_hw[1]}x{f.size_hw[0]}" for f in found if f.size_hw).most_common()),
        (float(np.mean(objects)), max(objects)) if objects else (0.0, 0),
        (min(shares), float(np.median(shares)), max(shares)) if shares else (0.0, 0.0, 0.0),
    )
