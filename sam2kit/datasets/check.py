"""A look at every sample before training: what is there, what would spoil the result, and how to put it right.

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

from sam2kit.datasets.duplicates import groups_of_agreeing, thumbnail_of
from sam2kit.datasets.label_images import LabelImageTruth
from sam2kit.datasets.opening import open_dataset
from sam2kit.datasets.picture_files import FilePicture, TrueMasks
from sam2kit.datasets.report import CLIP_FRAMES, FULL_SHARE, KINDS, TINY_AREA, Problem, Report
from sam2kit.datasets.samples import BadSampleError, ClipSample, Dataset, Note, PictureSample
from sam2kit.datasets.splitting import split
from sam2kit.datasets.voc import VocTruth
from sam2kit.threads import usable_cores

_MANY_COLOURS = 25  # objects of one colour mask
_LOOKED_AT = 6  # frames of each clip
_CURE = "save it as PNG with one flat colour per object, without smoothing"


@dataclass
class Examined:
    """What is remembered of one sample once its pixels are gone."""

    name: str
    split: str | None
    size_hw: tuple[int, int] | None = None  # None if the sample cannot be used
    shares: list[float] = field(default_factory=list)  # area of each mask, of the picture
    objects: int = 0
    thumbnail: np.ndarray | None = None
    notes: list[Note] = field(default_factory=list)
    scattered: list[str] = field(default_factory=list)  # a sentence for each mask that has several large parts


def check_dataset(
    dataset: Dataset | str | PathLike[str], *, format: str | None = None, separate_parts: bool = False
) -> Report:
    """Read all samples and say what is wrong.

    Args:
        dataset: or its path.
        format, separate_parts: as for `open_dataset`, if a path is given.
    Returns:
        the report; `spoiled` says whether to stop here.
    Raises:
        FileNotFoundError, ValueError: if no known format is at the path.
    """
    if not isinstance(dataset, Dataset):
        dataset = open_dataset(dataset, format=format, separate_parts=separate_parts)
    with ThreadPoolExecutor(usable_cores()) as pool:
        pictures = list(pool.map(examine_picture, dataset.pictures))
        clips = list(pool.map(examine_clip, dataset.clips))
    notes = [*dataset.notes, *(note for found in (*pictures, *clips) for note in found.notes)]
    known = {note.text for note in dataset.notes}
    notes += [Note("unreadable", text) for text in dataset.skipped if text not in known]
    notes += _same_pictures(dataset.pictures, pictures)
    notes += _of_all(dataset, [*pictures, *clips], bool(notes))
    return _report(dataset, pictures, clips, notes)


def examine_picture(sample: PictureSample) -> Examined:
    """Read one picture and look at its masks."""
    found = Examined(sample.name, sample.split)
    try:
        if isinstance(sample, FilePicture):
            image, truth = sample.examine()
        else:
            labelled = sample.read()
            image, truth = labelled.image, TrueMasks(labelled.masks)
    except (ValueError, OSError) as error:
        found.notes.append(Note(getattr(error, "kind", "unreadable"), _named(str(error), sample.name)))
        return found
    size_hw = image.shape[:2]
    found.size_hw, found.thumbnail = size_hw, thumbnail_of(image)
    found.notes += truth.notes
    _look_at_masks(found, truth.masks, size_hw, sample.name)
    if isinstance(sample, FilePicture) and isinstance(sample.truth, LabelImageTruth | VocTruth):
        whole = truth.masks if not sample.truth.separate_parts else []
        parts = [(number, _large_parts(mask)) for number, mask in enumerate(whole, start=1)]
        found.scattered = [f"mask {number} of {sample.name} in {count}" for number, count in parts if count > 1]
    return found


def _large_parts(mask: np.ndarray) -> int:
    """Connected parts of a mask that are no specks beside the largest."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return int((areas >= max(TINY_AREA, areas.max(initial=0) / 4)).sum())


def examine_clip(clip: ClipSample) -> Examined:
    """Read a few frames of a clip and look at their masks."""
    found = Examined(clip.name, clip.split)
    frames = list(clip.truth_frames)
    if 0 < len(frames) < CLIP_FRAMES:
        text = f"{clip.name} has {len(frames)} annotated frames; training takes {CLIP_FRAMES} at a time"
        found.notes.append(Note("short", text))
    chosen = [frames[i] for i in np.unique(np.linspace(0, len(frames) - 1, min(_LOOKED_AT, len(frames))).astype(int))]
    try:
        if not chosen:
            raise BadSampleError(f"{clip.name} has no annotated frame; annotate it, or remove it", "no_mask")
        labelled = clip.read(chosen)
    except (ValueError, OSError) as error:
        found.notes.append(Note(getattr(error, "kind", "unreadable"), _named(str(error), clip.name)))
        return found
    size_hw = found.size_hw = labelled.frames.shape[1:3]
    if not labelled.masks:
        found.notes.append(Note("empty", f"{clip.name} shows no object on the {len(chosen)} frames that were read"))
    for number, masks in labelled.masks.items():
        seen = [mask for mask in masks if mask.any()]
        _look_at_masks(found, seen, size_hw, f"{clip.name}, object {number}")
    found.objects = len(labelled.masks)
    return found


def _named(text: str, name: str) -> str:
    return text if name.rsplit("/", 1)[-1].split(".")[0] in text else f"{name}: {text}"


def _look_at_masks(found: Examined, masks: Sequence[np.ndarray], size_hw: tuple[int, int], name: str) -> None:
    areas = [int(np.count_nonzero(mask)) for mask in masks]
    pixels = size_hw[0] * size_hw[1]
    found.shares += [area / pixels for area in areas if area]
    found.objects += sum(area > 0 for area in areas)
    for number, area in enumerate(areas, start=1):
        if area == 0:
            found.notes.append(Note("empty", f"{name}: mask {number} is empty and is passed over; outline the object"))
        elif area < TINY_AREA and pixels > 40 * TINY_AREA:
            text = f"{name}: mask {number} has {area} pixels, hard to learn; remove it if it is a slip of the brush"
            found.notes.append(Note("tiny", text))
        elif area >= FULL_SHARE * pixels:
            text = f"{name}: mask {number} covers {area / pixels:.0%} of the picture; is background marked as object?"
            found.notes.append(Note("full", text))
    if any(note.kind == "colour_mask" for note in found.notes) and len(masks) > _MANY_COLOURS:
        text = f"{name}: its colour mask was read as {len(masks)} objects, one per colour; if that is too many, {_CURE}"
        found.notes.append(Note("many_objects", text))
    digests = Counter((area, hash(np.packbits(m).tobytes())) for area, m in zip(areas, masks, strict=True) if area)
    if twice := sum(count - 1 for count in digests.values()):
        found.notes.append(Note("twice", f"{name}: {twice} of its masks repeat another one; remove the copies"))


def _same_pictures(samples: Sequence[PictureSample], found: Sequence[Examined]) -> list[Note]:
    """Duplicates, and leakage where they lie in different splits."""
    paths = [sample.files[0] if sample.files else None for sample in samples]
    notes = []
    for group in groups_of_agreeing(paths, [f.thumbnail for f in found]):
        if len(group) < 2:
            continue
        names = ", ".join(found[i].name for i in group[:3]) + (" ..." if len(group) > 3 else "")
        splits = {split for i in group if (split := found[i].split) is not None}
        if len(splits) > 1:
            text = f"{names} show the same picture in {' and '.join(sorted(splits))}; keep it in one of them"
            notes.append(Note("leakage", f"{text}, or the held-out score is flattered"))
        else:
            notes.append(Note("duplicate", f"{names} show the same picture; keep one of them"))
    return notes


def _of_all(dataset: Dataset, found: Sequence[Examined], said_why: bool) -> list[Note]:
    """What only all samples together show.

    Args:
        said_why: whether something else is said of the dataset, too.
    """
    usable = [f for f in found if f.objects]
    if not usable:
        why = "see below" if said_why else f"it holds {len(found) or 'no'} samples; add pictures with masks"
        return [Note("nothing", f"{dataset.path}: no sample has a picture and a mask that can be used; {why}")]
    notes = _cannot_be_split(dataset, {f.name for f in usable})
    scattered = [text for f in found for text in f.scattered]
    masks = sum(f.objects for f in usable)
    if 2 * len(scattered) > masks:
        text = f"{dataset.path}: {len(scattered)} of {masks} masks have several separate parts ({scattered[0]}, ...)"
        cure = "give --separate-parts if each part is an object of its own; else all of them together are one object"
        notes.append(Note("parts", f"{text}; {cure}"))
    empty = sum(note.kind == "empty" for f in found for note in f.notes)
    shares = [share for f in found for share in f.shares]
    if empty > len(shares):
        text = f"{dataset.path}: {empty} masks are empty and {len(shares)} are not; were they exported with all labels?"
        notes.append(Note("mostly_empty", text))
    if np.mean(np.array(shares) >= FULL_SHARE) > 0.8:
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


def _report(dataset: Dataset, pictures: Sequence[Examined], clips: Sequence[Examined], notes: Sequence[Note]) -> Report:
    grouped: dict[str, dict[str, None]] = {}
    for note in notes:
        grouped.setdefault(note.kind, {})[note.text] = None
    order = list(KINDS)
    found = [*pictures, *clips]
    usable = [f for f in found if f.size_hw]
    sizes = Counter(f"{f.size_hw[1]}x{f.size_hw[0]}" for f in found if f.size_hw)
    shares = [share for f in usable for share in f.shares]
    objects = [f.objects for f in usable]
    return Report(
        dataset.describe(),
        tuple(Problem(kind, tuple(grouped[kind])) for kind in sorted(grouped, key=order.index)),
        {
            "pictures": sum(f.size_hw is not None for f in pictures),
            "clips": sum(f.size_hw is not None for f in clips),
            "masks": len(shares),
            "unusable": len(found) - len(usable) + len(dataset.skipped),
        },
        tuple(sizes.most_common()),
        (float(np.mean(objects)), max(objects)) if objects else (0.0, 0),
        (min(shares), float(np.median(shares)), max(shares)) if shares else (0.0, 0.0, 0.0),
    )
