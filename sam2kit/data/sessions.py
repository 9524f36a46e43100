"""This project's own session files as truth: what somebody segmented, tracked, corrected and saved.

A session file holds prompts and answers, and a picture itself; a clip is found where it was when the session was saved,
or beside the file. A frame has truth if every object has an answer on it. A mask that was given as prompt is truth
itself.
"""

from __future__ import annotations

import json
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from sam2kit.data.layouts import Findings, name_in
from sam2kit.data.sample import Dataset, Sample, TrueMasks, Truth
from sam2kit.data.stored import BadSampleError, Frames, FrameSize, opened_clip, stamp_of
from sam2kit.files import MALFORMED
from sam2kit.media.clips import VIDEO_SUFFIXES
from sam2kit.predict.objects import class_of
from sam2kit.predict.session import Session
from sam2kit.predict.session_file import session_clip_path

FORMAT = "sam2kit sessions"
_SUFFIXES = (".safetensors", ".sam2kit")  # what the app writes, and what the README and the notebooks call it


def recognises(path: Path) -> bool:
    """Whether `path` is a session file, or a folder that holds some."""
    return any(_header(file) is not None for file in _candidates(path))


def open_sessions(path: Path) -> Dataset:
    """All session files at a path."""
    root = path if path.is_dir() else path.parent
    headers = {file: header for file in _candidates(path) if (header := _header(file)) is not None}
    found = Findings().add_each(headers, "a session", lambda file: _sample(file, headers[file], root))
    return found.dataset(path, FORMAT)


def _candidates(path: Path) -> list[Path]:
    files = [path] if path.is_file() else path.glob("**/*")
    return sorted(file for file in files if file.suffix in _SUFFIXES and file.is_file())


def _header(file: Path) -> dict[str, Any] | None:
    """What the file says about its session; None if it is about something else."""
    try:
        with safe_open(str(file), framework="pt") as opened:
            stated = opened.metadata() or {}
        return json.loads(stated["session"]) if stated.get("format", "").startswith("sam2kit session") else None
    except (SafetensorError, OSError, *MALFORMED):
        return None


def _sample(file: Path, header: dict[str, Any], root: Path) -> Sample:
    try:
        clip = None if header["clip"]["picture"] else _clip_of(file)
        known = []  # for each object, the frames for which it has an answer, or was given as a mask
        with safe_open(str(file), framework="pt") as opened:
            for i, stated in enumerate(header["objects"]):
                rows = [opened.get_tensor(f"{i}/{kind}/rows")[:, 0].tolist() for kind in ("prompted", "tracked")]
                given = [frame for frame, prompt in stated["prompts"].items() if "mask" in prompt]
                known.append({int(frame) for frames in (*rows, given) for frame in frames})
        numbers = [int(stated["number"]) for stated in header["objects"]]
        count = int(header["clip"]["frames"])
    except BadSampleError:
        raise
    except (*MALFORMED, SafetensorError) as error:
        raise BadSampleError(f"{file} is damaged ({error}); save the session again") from error
    frames = sorted(set.intersection(*known)) if known else []
    if not frames:
        raise BadSampleError(f"{file} has no frame with an answer for every object; track first, then save", "no_mask")
    truth = Truth(read=partial(_read_answers, file, clip), files=(file,), frames=frames, ids=numbers)
    files = (clip if clip is not None and clip.is_file() else file,)
    return Sample(name_in(root, file), Frames(partial(_read_frame, file, clip), files, count, clip is None), truth)


def _read_frame(file: Path, clip: Path | None, index: int) -> np.ndarray:
    """Of a session's clip, or of the part of it that the session is about; or its picture."""
    return _opened(file, clip).clip.frame(index)


def _clip_of(file: Path) -> Path:
    try:
        stated = session_clip_path(file)
    except ValueError as error:
        raise BadSampleError(f"{error}; save the session again") from error
    places = [stated, file.parent / stated.name] if stated else []
    stem = file.name.split(".")[0]  # the app calls the session of walk.mp4 walk.session.safetensors
    places += sorted(p for p in file.parent.iterdir() if p.stem == stem and p.suffix.lower() in VIDEO_SUFFIXES)
    if found := next((place for place in places if place.exists()), None):
        return found
    wanted = f"needs its clip {stated}, which is not there" if stated else "does not say which clip it is about"
    text = f"{file} {wanted}; put the clip beside it, as {stated.name if stated else stem + '.mp4'}"
    raise BadSampleError(text, "missing")


def _read_answers(file: Path, clip: Path | None, frame: int, size: FrameSize) -> TrueMasks:
    """Each object's answer; a mask that somebody gave goes before the answer to it."""
    session = _opened(file, clip)
    known = session.masks(frame)
    truth = TrueMasks(dict(zip(known.numbers, known.masks, strict=True)) if len(known) else {})
    for item in session.objects.values():
        if (kind := class_of(item.name)) is not None:
            truth.labels[item.number] = kind
        prompt = item.prompts.get(frame)
        if prompt is not None and prompt.mask is not None:
            truth.add(prompt.mask, number=item.number)
    return truth


def _opened(path: Path, clip: Path | None) -> Session:
    try:
        stamps = stamp_of(path), stamp_of(clip or path)
    except OSError as error:
        raise BadSampleError(f"{path} or its clip is gone ({error}); put it back", "missing") from error
    return _open_session(path, clip, stamps)


@lru_cache(maxsize=4)
def _open_session(path: Path, clip: Path | None, stamps: tuple[tuple[int, int], ...]) -> Session:
    try:
        return Session.load(path, None if clip is None else opened_clip(clip))
    except (ValueError, OSError) as error:
        raise BadSampleError(f"{error}") from error
