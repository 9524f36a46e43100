"""SA-V: a video of 24 frames per second, and JSON with run lengths for 6 frames per second.

    sav_000001.mp4 (or a folder sav_000001/ of frames)     sav_000001_manual.json     sav_000001_auto.json

`masklet[k][object]` belongs to frame 4 k. People's masks (`_manual`) are taken before the machine's (`_auto`). A frame
with a null entry says nothing and is passed over. sam2kit's own files hold a mask for every frame, and say so.
Surprise: frames dumped into a folder are known by the numbers in their names, which count the video's frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from sam2kit.data.layouts import Findings, by_name, json_of_kind, load_json, name_in, split_of
from sam2kit.data.sample import Dataset, Sample, TrueMasks, Truth
from sam2kit.data.segmentations import mask_of_segmentation
from sam2kit.data.stored import BadSampleError, FrameSize, frame_files, frames_of_video, pictures_in, stamp_of
from sam2kit.media.clips import VIDEO_SUFFIXES
from sam2kit.media.mask_files import RunLengths, mask_to_runs

FORMAT = "SA-V JSON"
_EVERY = "annotated_every"  # our own key: how many frames lie between two entries
_FRAMES = "frame_numbers"  # our own key: which frame of the video each entry is about
_OFFICIAL_EVERY = 4  # 6 of 24 frames per second


def open_sav(path: Path) -> Dataset:
    """All videos that have a JSON."""
    found, files = Findings(), json_of_kind(path, "sav")
    by_people = {_video_name(f) for f in files if f.stem.endswith("_manual")}
    taken = [f for f in by_name(files) if not (f.stem.endswith("_auto") and _video_name(f) in by_people)]
    root = path if path.is_dir() else path.parent
    return found.add_each(taken, FORMAT, lambda file: _sample(file, root, found)).dataset(path, FORMAT)


def _video_name(file: Path) -> str:
    return file.stem.removesuffix("_manual").removesuffix("_auto")


def _sample(file: Path, root: Path, found: Findings) -> Sample:
    content = load_json(file)
    masklet = content.get("masklet") if isinstance(content, dict) else None
    if not isinstance(masklet, list) or not masklet or not any(masklet):
        raise BadSampleError(f"{file} has no masks on any frame; annotate it, or remove it", "no_mask")
    video = _video_of(file, content)
    files = by_name(pictures_in(video, deep=False)) if video.is_dir() else []  # known by their frames of the video
    dumped = {int(f.stem) if f.stem.isdecimal() else i: f for i, f in enumerate(files)}
    count = int(content.get("video_frame_count") or 0)
    every = content.get(_EVERY)
    if not isinstance(every, int) or every <= 0:
        every = 1 if (count or len(dumped)) == len(masklet) else _OFFICIAL_EVERY
    ids = _object_ids(content, masklet, file)
    frames = content.get(_FRAMES)
    if (
        not isinstance(frames, list)
        or len(frames) != len(masklet)
        or not all(isinstance(n, int) and n >= 0 for n in frames)
    ):
        frames = [row * every for row in range(len(masklet))]
    elif count:  # of a part of a video, the JSON says how long the part is
        count = max(count, *(n + 1 for n in frames))
    positions = {number: position for position, number in enumerate(dumped)} if dumped else None
    rows: dict[int, int] = {}  # frame -> entry of `masklet`
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
        found.note("void", f"{file}: {nulls} of {len(masklet)} frames have null entries and are passed over")
    if beyond:
        text = f"{file} has masks for {len(masklet)} frames, {every} apart, but {beyond} of them are not in {video}"
        found.note("size", f"{text}; use the video that was annotated, uncut")
    if not rows:
        raise BadSampleError(f"{file} has no frame with complete masks; remove it, or annotate it again", "no_mask")
    truth = Truth(read=partial(_read_entries, file, ids, rows), files=(file,), frames=sorted(rows), ids=ids)
    pixels = frame_files(*dumped.values()) if dumped else frames_of_video(video, count or max(rows) + 1, file)
    return Sample(name_in(root, video), pixels, truth, split_of(file, root))


def _read_entries(file: Path, ids: list[int], rows: dict[int, int], frame: int, size: FrameSize) -> TrueMasks:
    """All objects; the mask of one that is absent is empty."""
    truth = TrueMasks()
    for number, runs in zip(ids, _masklet(file, stamp_of(file))[rows[frame]], strict=True):
        name = f"{file}, object {number} on frame {frame}"
        truth.add(mask_of_segmentation(runs, size.size_hw, name, truth.notes), number=number)
    return truth


@lru_cache(maxsize=8)
def _masklet(file: Path, stamp: tuple[int, int]) -> list[Any]:
    """The run lengths of a JSON; the latest few are kept."""
    return load_json(file)["masklet"]


def _video_of(file: Path, content: dict[str, Any]) -> Path:
    stated = Path(str(content.get("video_id") or "")).name  # a name, and no way to other folders
    for stem in dict.fromkeys((_video_name(file), stated or _video_name(file))):
        for suffix in (*VIDEO_SUFFIXES, ""):
            video = file.parent / f"{stem}{suffix}"
            if os.path.isfile(video) or (not suffix and video.is_dir() and pictures_in(video)):
                return video
    text = f"{file} has no video: {_video_name(file)}.mp4 is not beside it; put it, or a folder of frames, there"
    raise BadSampleError(text, "missing")


def _object_ids(content: dict[str, Any], masklet: list[Any], file: Path) -> list[int]:
    width = max(len(entries) for entries in masklet if isinstance(entries, list))
    stated = content.get("masklet_id")
    if isinstance(stated, list) and len(stated) == width and len(set(map(str, stated))) == width:
        return [int(number) for number in stated]
    if stated is not None and (not isinstance(stated, list) or len(stated) != width):
        stated_count = len(stated) if isinstance(stated, list) else "no list of"
        text = f"{file} lists {stated_count} masklet_id, but its frames hold {width} masks; export it again"
        raise BadSampleError(text, "broken_mask")
    return list(range(width))


def sav_content(
    video_id: str,
    size_hw: tuple[int, int],
    ids: Sequence[int],
    rows: Iterable[Mapping[int, RunLengths] | None],
    **more: Any,
) -> dict[str, Any]:
    """The JSON of a clip, with a mask for every frame.

    Args:
        ids: of all objects that are seen on some frame.
        rows: object -> run lengths for each frame; None where nothing is known.
        more: keys of our own.
    """
    (height, width), rows = size_hw, list(rows)
    nothing = mask_to_runs(np.zeros(size_hw, bool))
    frames_of = {number: [i for i, row in enumerate(rows) if row is not None and number in row] for number in ids}
    return {
        "video_id": video_id,
        "video_frame_count": float(len(rows)),
        "video_height": float(height),
        "video_width": float(width),
        "video_resolution": float(height * width),
        _EVERY: 1,
        "masklet": [None if row is None else [row.get(number, nothing) for number in ids] for row in rows],
        "masklet_id": list(ids),
        "masklet_first_appeared_frame": [float(frames[0]) for frames in frames_of.values()],
        "masklet_frame_count": [len(frames) for frames in frames_of.values()],
        "masklet_type": ["manual" for _ in ids],
        "masklet_num": len(ids),
        **more,
    }
