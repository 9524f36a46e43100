"""SA-V: a video of 24 frames per second, and JSON with run lengths for 6 frames per second.

    sav_000001.mp4 (or a folder sav_000001/ of frames)     sav_000001_manual.json     sav_000001_auto.json

`masklet[k][object]` belongs to frame 4 k. People's masks (`_manual`) are taken before the machine's (`_auto`). A frame
with a null entry says nothing and is passed over. sam2kit's own files hold a mask for every frame, and say so.
Surprise: frames dumped into a folder are known by the numbers in their names, which count the video's frames.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sam2kit.datasets.frame_folders import stack_masks
from sam2kit.datasets.layouts import json_of_kind, load_json, natural_key, split_of
from sam2kit.datasets.opened_clips import opened_clip, stamp_of
from sam2kit.datasets.picture_files import pictures_in
from sam2kit.datasets.samples import BadSampleError, ClipSample, Dataset, LabelledClip, Note
from sam2kit.datasets.segmentations import mask_of_segmentation
from sam2kit.errors import ODD
from sam2kit.media.clips import VIDEO_SUFFIXES

FORMAT = "SA-V JSON"
EVERY = "annotated_every"  # our own key: how many frames lie between two entries
FRAMES = "frame_numbers"  # our own key: which frame of the video each entry is about
_OFFICIAL_EVERY = 4  # 6 of 24 frames per second


@dataclass(frozen=True)
class SavClip(ClipSample):
    """One video; opened when a frame is asked for, because that takes decoding it once."""

    name: str
    video: Path  # file, or folder of frames
    truth: Path
    frame_count: int
    truth_frames: Sequence[int]
    object_ids: Sequence[int]
    rows: dict[int, int]  # frame -> entry of `masklet`
    split: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The frames, or the video; and the JSON."""
        return (*(pictures_in(self.video) if self.video.is_dir() else [self.video]), self.truth)

    @property
    def picture_files(self) -> tuple[Path, ...]:
        """The frames, or the video."""
        return self.files[:-1]

    def frame(self, index: int) -> np.ndarray:
        """One frame, uint8 [H, W, 3].

        Raises:
            BadSampleError: if the video cannot be read, or is shorter than the JSON says.
        """
        clip = opened_clip(self.video)
        if index >= len(clip):
            text = f"{self.truth} has masks for frame {index}, but {self.video} has only {len(clip)} frames"
            raise BadSampleError(f"{text}; use the video that was annotated, uncut", "size")
        try:
            return clip.frame(index)
        except ValueError as error:
            raise BadSampleError(f"{error}; replace the file") from error

    def read(self, frames: Sequence[int]) -> LabelledClip:
        """Some frames and their masks.

        Raises:
            BadSampleError: if video or run lengths cannot be read, or sizes differ.
        """
        images = [self.frame(index) for index in frames]
        truths = [self._masks(index, images[0].shape[:2]) for index in frames]
        return LabelledClip(np.stack(images), stack_masks(truths, images[0].shape[:2]))

    def _masks(self, index: int, size_hw: tuple[int, int]) -> dict[int, np.ndarray]:
        masks = {}
        entries = _masklet(self.truth, stamp_of(self.truth))[self.rows[index]]
        for number, runs in zip(self.object_ids, entries, strict=True):
            name = f"{self.truth}, object {number} on frame {index}"
            masks[number] = mask_of_segmentation(runs, size_hw, name)[0]
        return masks


@lru_cache(maxsize=8)
def _masklet(file: Path, stamp: tuple[int, int]) -> list[Any]:
    """The run lengths of a JSON; the latest few are kept."""
    return load_json(file)["masklet"]


def recognises(path: Path) -> bool:
    """Whether there are JSON files with masklets."""
    return bool(json_of_kind(path, "sav"))


def open_sav(path: Path) -> Dataset:
    """All videos that have a JSON."""
    root = path if path.is_dir() else path.parent
    clips: list[SavClip] = []
    notes: list[Note] = []
    files = json_of_kind(path, "sav")
    by_people = {_video_name(f) for f in files if f.stem.endswith("_manual")}
    for file in sorted(files, key=lambda f: natural_key(f.name)):
        if file.stem.endswith("_auto") and _video_name(file) in by_people:
            continue
        try:
            clips.append(_sample(file, root, notes))
        except BadSampleError as error:
            notes.append(Note(error.kind, str(error)))
        except ODD as error:
            notes.append(Note("unreadable", f"{file} is damaged ({error}); export it again"))
    return Dataset(path, FORMAT, [], clips, [n.text for n in notes], notes)


def _video_name(file: Path) -> str:
    return file.stem.removesuffix("_manual").removesuffix("_auto")


def _sample(file: Path, root: Path, notes: list[Note]) -> SavClip:
    content = load_json(file)
    masklet = content.get("masklet") if isinstance(content, dict) else None
    if not isinstance(masklet, list) or not masklet or not any(masklet):
        raise BadSampleError(f"{file} has no masks on any frame; annotate it, or remove it", "no_mask")
    video = _video_of(file, content)
    numbers, count = _frame_numbers(video), int(content.get("video_frame_count") or 0)
    every = _every(content, len(masklet), len(numbers) if video.is_dir() else count)
    positions = {number: position for position, number in enumerate(numbers)} if video.is_dir() else None
    ids = _object_ids(content, masklet, file)
    rows: dict[int, int] = {}
    frames = _stated_frames(content, len(masklet)) or [row * every for row in range(len(masklet))]
    if content.get(FRAMES) == frames and count:
        count = max(count, *(n + 1 for n in frames))  # of a part of a video, the JSON says how long the part is
    nulls = beyond = 0
    for row, entries in enumerate(masklet):
        frame = frames[row] if positions is None else positions.get(frames[row])
        if not isinstance(entries, list) or len(entries) != len(ids) or any(not entry for entry in entries):
            nulls += 1
        elif frame is None or (positions is None and count and frame >= count):
            beyond += 1
        else:
            rows[frame] = row
    if nulls:
        notes.append(Note("void", f"{file}: {nulls} of {len(masklet)} frames have null entries and are passed over"))
    if beyond:
        text = f"{file} has masks for {len(masklet)} frames, {every} apart, but {beyond} of them are not in {video}"
        notes.append(Note("size", f"{text}; use the video that was annotated, uncut"))
    if not rows:
        raise BadSampleError(f"{file} has no frame with complete masks; remove it, or annotate it again", "no_mask")
    last = max(rows) + 1
    length = len(numbers) if positions is not None else (count or last)
    name = video.relative_to(root).as_posix() if video.is_relative_to(root) else video.name
    return SavClip(name, video, file, length, sorted(rows), ids, rows, split_of(file, root))


def _video_of(file: Path, content: dict[str, Any]) -> Path:
    stated = Path(str(content.get("video_id") or "")).name  # a name, and no way to other folders
    stems = dict.fromkeys((_video_name(file), stated or _video_name(file)))
    for stem in stems:
        for suffix in (*VIDEO_SUFFIXES, ""):
            video = file.parent / f"{stem}{suffix}"
            if os.path.isfile(video) or (not suffix and video.is_dir() and pictures_in(video)):
                return video
    wanted = f"{_video_name(file)}.mp4"
    raise BadSampleError(
        f"{file} has no video: {wanted} is not beside it; put it, or a folder of frames, there", "missing"
    )


def _frame_numbers(video: Path) -> list[int]:
    """Of a folder of frames: which frame of the video each file is."""
    if not video.is_dir():
        return []
    files = sorted(pictures_in(video, deep=False), key=lambda p: natural_key(p.name))
    return [int(f.stem) if f.stem.isdecimal() else i for i, f in enumerate(files)]


def _every(content: dict[str, Any], entries: int, frames: int) -> int:
    """Frames from one entry to the next."""
    if isinstance(content.get(EVERY), int) and content[EVERY] > 0:
        return content[EVERY]
    return 1 if int(content.get("video_frame_count") or frames) == entries else _OFFICIAL_EVERY


def _stated_frames(content: dict[str, Any], entries: int) -> list[int] | None:
    """Which frame of the video each entry is about, where the JSON says so."""
    frames = content.get(FRAMES)
    if not isinstance(frames, list) or len(frames) != entries:
        return None
    return frames if all(isinstance(n, int) and n >= 0 for n in frames) else None


def _object_ids(content: dict[str, Any], masklet: list[Any], file: Path) -> list[int]:
    width = max(len(entries) for entries in masklet if isinstance(entries, list))
    stated = content.get("masklet_id")
    if isinstance(stated, list) and len(stated) == width and len(set(map(str, stated))) == width:
        return [int(number) for number in stated]
    if stated is not None and (not isinstance(stated, list) or len(stated) != width):
        told = len(stated) if isinstance(stated, list) else "no list of"
        text = f"{file} lists {told} masklet_id, but its frames hold {width} masks; export it again"
        raise BadSampleError(text, "broken_mask")
    return list(range(width))
