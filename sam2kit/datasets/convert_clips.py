"""DAVIS folders and SA-V JSON from any dataset; a picture becomes a clip of one frame."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from sam2kit.datasets.convert import Conversion, PlainNames, frame_file, picture_file, read_or_skip
from sam2kit.datasets.samples import ClipSample, Dataset, LabelledClip, LabelledPicture, PictureSample
from sam2kit.datasets.sav import EVERY
from sam2kit.media.bundles import FileBundle, png_bytes
from sam2kit.media.mask_exports import davis_palette
from sam2kit.media.runlengths import compress_runs, mask_to_runs, runs_to_mask


@dataclass
class _Masks:
    """All masks of a clip, as run lengths."""

    size_hw: tuple[int, int]
    runs: dict[int, dict[int, dict[str, Any]]]  # frame -> object -> run lengths; a frame with truth may have none
    object_ids: list[int]

    @classmethod
    def of(cls, clip: ClipSample) -> _Masks:
        """Read frame by frame."""
        runs, size_hw = {}, (0, 0)
        for index in clip.truth_frames:
            labelled = clip.read([index])
            size_hw = labelled.frames.shape[1:3]
            runs[index] = {number: mask_to_runs(masks[0]) for number, masks in labelled.masks.items()}
        return cls(size_hw, runs, sorted({number for found in runs.values() for number in found}))

    def overlap(self) -> bool:
        """Whether a pixel belongs to two objects on some frame."""
        for found in self.runs.values():
            total = np.zeros(self.size_hw, np.uint16)
            for runs in found.values():
                total += runs_to_mask(runs)
            if total.max(initial=0) > 1:
                return True
        return False

    @property
    def count(self) -> int:
        """Of masks on all frames."""
        return sum(map(len, self.runs.values()))


class PictureAsClip(ClipSample):
    """A picture, as a clip of one frame; its masks are the objects 1, 2, ..."""

    frame_count = 1
    truth_frames = (0,)
    object_ids: Sequence[int]

    def __init__(self, sample: PictureSample, labelled: LabelledPicture) -> None:
        self._sample, self._labelled = sample, labelled
        self.name, self.split = sample.name, sample.split
        self.object_ids = range(1, len(labelled.masks) + 1)

    def frame(self, index: int) -> np.ndarray:
        """The picture."""
        return self._labelled.image

    def read(self, frames: Sequence[int]) -> LabelledClip:
        """The picture, and its masks."""
        masks = {number: mask[None] for number, mask in enumerate(self._labelled.masks, start=1)}
        return LabelledClip(self._labelled.image[None], masks)

    def file(self) -> tuple[bytes, str]:
        """Content and suffix of its file."""
        return picture_file(self._sample, self._labelled.image)


def write_davis(dataset: Dataset, bundle: FileBundle, result: Conversion) -> None:
    """JPEGImages/<clip>/, Annotations/<clip>/ and ImageSets/<split>.txt."""
    listed: dict[str, list[str]] = {}
    overlapping, shifted = [], []
    for name, clip, masks in _clips(dataset, result, PlainNames(per_split=False)):
        for index in range(clip.frame_count):
            content, suffix = _file(clip, index)
            bundle.write(f"JPEGImages/{name}/{index:05d}{suffix}", content)
        shift = 1 if 0 in masks.object_ids else 0
        if masks.overlap() or max(masks.object_ids, default=0) + shift > 255:
            overlapping.append(name)
            _write_object_files(name, masks, bundle)
        else:
            shifted += [name] if shift else []
            _write_label_pictures(name, masks, shift, bundle)
        if clip.split:
            listed.setdefault(clip.split, []).append(name)
    for split, clip_names in listed.items():
        bundle.write(f"ImageSets/{split}.txt", "".join(f"{name}\n" for name in clip_names))
    if overlapping:
        result.notes.append(
            f"{len(overlapping)} clips have overlapping objects, or more than 255, which a label picture cannot hold; "
            f"{_some(overlapping)} got one file per object in Annotations/<clip>/<object>, as SA-V's test clips have"
        )
    if shifted:
        result.notes.append(f"in {_some(shifted)} objects count from 1 instead of 0, which means background in DAVIS")
    _say_classes(dataset, result)


def write_sav(dataset: Dataset, bundle: FileBundle, result: Conversion) -> None:
    """<clip>/ of frames, and <clip>_manual.json; in a folder for each split."""
    for name, clip, masks in _clips(dataset, result, PlainNames()):
        place = f"{clip.split}/{name}" if clip.split else name
        for index in range(clip.frame_count):
            content, suffix = _file(clip, index)
            bundle.write(f"{place}/{index:05d}{suffix}", content)
        bundle.write(f"{place}_manual.json", json.dumps(_sav_content(name, clip, masks)))
    _say_classes(dataset, result)


def _clips(dataset: Dataset, result: Conversion, names: PlainNames) -> Iterator[tuple[str, ClipSample, _Masks]]:
    """A name that is one folder, the clip, and its masks; what cannot be read is skipped."""
    for sample in dataset.samples:
        if isinstance(sample, PictureSample):
            labelled = read_or_skip(sample, result)
            if labelled is None:
                continue
            clip: ClipSample = PictureAsClip(sample, labelled)
        else:
            clip = sample
        try:
            masks = _Masks.of(clip)
            clip.frame(clip.frame_count - 1)
        except (ValueError, OSError) as error:
            result.skipped.append(str(error))
            continue
        result.clips += 1
        result.masks += masks.count
        yield "__".join(names.of(sample).parts), clip, masks


def _file(clip: ClipSample, index: int) -> tuple[bytes, str]:
    return clip.file() if isinstance(clip, PictureAsClip) else frame_file(clip, index)


def _write_label_pictures(name: str, masks: _Masks, shift: int, bundle: FileBundle) -> None:
    for index, found in masks.runs.items():
        labels = np.zeros(masks.size_hw, np.uint8)
        for number, runs in found.items():
            labels[runs_to_mask(runs)] = number + shift
        picture = Image.fromarray(labels)
        picture.putpalette(davis_palette().tobytes())
        bundle.write(f"Annotations/{name}/{index:05d}.png", png_bytes(picture))


def _write_object_files(name: str, masks: _Masks, bundle: FileBundle) -> None:
    """Also empty ones, so that a frame on which an object is absent is known to have truth."""
    nothing = np.zeros(masks.size_hw, bool)
    for index, found in masks.runs.items():
        for number in masks.object_ids:
            mask = runs_to_mask(found[number]) if number in found else nothing
            picture = Image.fromarray(mask.astype(np.uint8) * 255)
            bundle.write(f"Annotations/{name}/{number:03d}/{index:05d}.png", png_bytes(picture))


def _sav_content(name: str, clip: ClipSample, masks: _Masks) -> dict[str, Any]:
    height, width = masks.size_hw
    nothing = mask_to_runs(np.zeros(masks.size_hw, bool))
    first = [min(i for i, found in masks.runs.items() if number in found) for number in masks.object_ids]
    return {
        "video_id": name,
        "video_frame_count": clip.frame_count,
        "video_height": float(height),
        "video_width": float(width),
        "video_resolution": float(height * width),
        EVERY: 1,
        "masklet": [
            [compress_runs(masks.runs[i].get(number, nothing)) for number in masks.object_ids]
            if i in masks.runs
            else None
            for i in range(clip.frame_count)
        ],
        "masklet_id": masks.object_ids,
        "masklet_first_appeared_frame": [float(index) for index in first],
        "masklet_frame_count": [sum(n in found for found in masks.runs.values()) for n in masks.object_ids],
        "masklet_type": ["manual" for _ in masks.object_ids],
        "masklet_num": len(masks.object_ids),
    }


def _say_classes(dataset: Dataset, result: Conversion) -> None:
    if dataset.classes:
        result.notes.append(f"{result.format} keeps no classes: {_some(list(dataset.classes))} are left out")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
