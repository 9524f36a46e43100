"""This project's own session files as truth: what somebody tracked, corrected and saved.

A session file holds prompts and answers; its clip is found where it was when the session was saved, or beside
the file. A frame has truth if every object has an answer on it. A mask that was given as prompt is truth itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from sam2kit.datasets.frame_folders import stack_masks
from sam2kit.datasets.opened_clips import opened_clip, stamp_of
from sam2kit.datasets.picture_files import pictures_in
from sam2kit.datasets.samples import BadSampleError, ClipSample, Dataset, LabelledClip, Note
from sam2kit.errors import ODD
from sam2kit.media.clips import VIDEO_SUFFIXES
from sam2kit.predict.session import VideoSession
from sam2kit.predict.session_files import reopen_session, session_clip_path

FORMAT = "sam2kit sessions"
_SUFFIXES = (".safetensors", ".sam2kit")  # what the app writes, and what the README and the notebooks call it


@dataclass(frozen=True)
class SessionClip(ClipSample):
    """One session file and its clip."""

    name: str
    path: Path
    clip_path: Path
    frame_count: int
    truth_frames: Sequence[int]
    object_ids: Sequence[int]  # 1, 2, ... in the session's order
    split: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The session and, if it is one file, the clip."""
        return (self.path, self.clip_path) if self.clip_path.is_file() else (self.path,)

    @property
    def picture_files(self) -> tuple[Path, ...]:
        """The clip."""
        return (self.clip_path,) if self.clip_path.is_file() else tuple(pictures_in(self.clip_path))

    def frame(self, index: int) -> np.ndarray:
        """One frame, uint8 [H, W, 3]."""
        return _opened(self).clip.frame(index)  # the session may be about a part of the clip

    def read(self, frames: Sequence[int]) -> LabelledClip:
        """Some frames and their masks.

        Raises:
            BadSampleError: if the clip is not the one of the session, or cannot be read.
        """
        session = _opened(self)
        images = np.stack([session.clip.frame(index) for index in frames])
        return LabelledClip(images, stack_masks([_truth(session, i) for i in frames], session.clip.size_hw))


def recognises(path: Path) -> bool:
    """Whether `path` is a session file, or a folder that holds some."""
    return any(_header(file) is not None for file in _candidates(path))


def open_sessions(path: Path) -> Dataset:
    """All session files at a path."""
    root = path if path.is_dir() else path.parent
    clips, notes = [], []
    for file in _candidates(path):
        header = _header(file)
        if header is None:
            continue
        try:
            clips.append(_sample(file, header, root))
        except BadSampleError as error:
            notes.append(Note(error.kind, str(error)))
    return Dataset(path, FORMAT, [], clips, [n.text for n in notes], notes)


def _candidates(path: Path) -> list[Path]:
    files = [path] if path.is_file() else path.glob("**/*")
    return sorted(file for file in files if file.suffix in _SUFFIXES and file.is_file())


def _header(file: Path) -> dict[str, Any] | None:
    """What the file says about its session; None if it is about something else."""
    try:
        with safe_open(str(file), framework="pt") as opened:
            stated = opened.metadata() or {}
        return json.loads(stated["session"]) if stated.get("format", "").startswith("sam2kit session") else None
    except (SafetensorError, OSError, *ODD):
        return None


def _sample(file: Path, header: dict[str, Any], root: Path) -> SessionClip:
    clip = _clip_of(file)
    try:
        known = [_known_frames(file, i, track) for i, track in enumerate(header["tracks"])]
        count = int(header["clip"]["frames"])
    except (*ODD, SafetensorError) as error:
        raise BadSampleError(f"{file} is damaged ({error}); save the session again") from error
    truth = sorted(set.intersection(*known)) if known else []
    if not truth:
        raise BadSampleError(f"{file} has no frame with an answer for every object; track first, then save", "no_mask")
    return SessionClip(file.relative_to(root).as_posix(), file, clip, count, truth, list(range(1, len(known) + 1)))


def _clip_of(file: Path) -> Path:
    try:
        stated = session_clip_path(file)
    except ValueError as error:
        raise BadSampleError(f"{error}; save the session again") from error
    places = [stated, file.parent / stated.name] if stated else []
    stem = file.name.split(".")[0]  # the app calls the session of walk.mp4 walk.session.safetensors
    places += sorted(p for p in file.parent.iterdir() if p.stem == stem and p.suffix.lower() in VIDEO_SUFFIXES)
    for place in places:
        if place.exists():
            return place
    wanted = f"needs its clip {stated}, which is not there" if stated else "does not say which clip it is about"
    text = f"{file} {wanted}; put the clip beside it, as {stated.name if stated else stem + '.mp4'}"
    raise BadSampleError(text, "missing")


def _known_frames(file: Path, number: int, track: dict[str, Any]) -> set[int]:
    """Frames for which an object has an answer, or was given as a mask."""
    with safe_open(str(file), framework="pt") as opened:
        rows = [opened.get_tensor(f"{number}/{kind}/rows")[:, 0].tolist() for kind in ("prompted", "tracked")]
    given = [int(frame) for frame, prompt in track["prompts"].items() if "mask" in prompt]
    return {int(frame) for frames in rows for frame in frames} | set(given)


def _opened(sample: SessionClip) -> VideoSession:
    try:
        stamps = stamp_of(sample.path), stamp_of(sample.clip_path)
    except OSError as error:
        raise BadSampleError(f"{sample.path} or its clip is gone ({error}); put it back", "missing") from error
    return _open_session(sample.path, sample.clip_path, stamps)


@lru_cache(maxsize=4)
def _open_session(path: Path, clip_path: Path, stamps: tuple[tuple[int, int], tuple[int, int]]) -> VideoSession:
    try:
        return reopen_session(path, opened_clip(clip_path))
    except (ValueError, OSError) as error:
        raise BadSampleError(f"{error}") from error


def _truth(session: VideoSession, frame: int) -> dict[int, np.ndarray]:
    """Object -> bool [H, W]; a mask that somebody gave goes before the answer to it."""
    known = session.masks(frame)
    masks = dict(zip(known.numbers, known.masks, strict=True)) if len(known) else {}
    for number, track in enumerate(session.tracks.values(), start=1):
        prompt = track.prompts.get(frame)
        if prompt is not None and prompt.mask is not None:
            masks[number] = prompt.mask
    return masks
