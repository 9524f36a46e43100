"""A session as one file, to go on in another process: prompts, answers, memories, and what was left to do.

session_container.py says what kind of file it is; what it says is checked before it is believed. The frames are not in
it; the clip is recognised by its fingerprint.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Hashable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam2kit.config import SAM2Config
from sam2kit.files import parse_json
from sam2kit.media.clips import Clip
from sam2kit.model.memory_bank import POINTER_FRAMES
from sam2kit.predict.frame_masks import FrameResult, VideoOptions
from sam2kit.predict.logits import CompactLogits, ExactLogits
from sam2kit.predict.session import FramePrompt, ObjectTrack, Step, VideoSession
from sam2kit.predict.session_container import (
    ODD_SESSION,
    PICTURE_FORMAT,
    VIDEO_FORMAT,
    open_session_file,
    write_session_file,
)

_DTYPES = {str(d): d for d in (torch.bfloat16, torch.float16, torch.float32, torch.float64)}


def write_session(session: VideoSession, config: SAM2Config, path: Path, *, with_path: bool = True) -> Path:
    """Write a session; a crash while writing leaves the file that was there.

    Args:
        config: of the model that worked on it.
        with_path: note where the clip is.
    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    tensors: dict[str, Tensor] = {}
    tracks = [_track_out(f"{number}", i, t, tensors) for number, (i, t) in enumerate(session.tracks.items())]
    origin = session.clip.origin if with_path else None
    part = session.clip.source_frames
    content = {
        "clip": {
            "fingerprint": session.clip.fingerprint(),
            "path": None if origin is None else str(origin.resolve()),
            "frames": len(session.clip),
            "size_hw": list(session.clip.size_hw),
            "part": [part.start, part.stop, part.step],  # of the whole clip's frames
        },
        "options": {**asdict(session.options), "memory_dtype": str(session.options.memory_dtype)},
        "model": config.as_dict(),
        "run": session.run,
        "pointer_frames": session.pointer_frames,
        "plan": [[s.frame, s.reverse, [i for i in s.object_ids if i in session.tracks], s.since] for s in session.plan],
        "tracks": tracks,
    }
    return write_session_file(path, VIDEO_FORMAT, content, tensors)


def session_clip_path(path: Path) -> Path | None:
    """Where the clip of a session file was when it was written; None if the file does not say."""
    stated = _content(_opened(path), path)["clip"]["path"]
    return None if stated is None else Path(stated)


def read_session(path: Path, clip: Clip, config: SAM2Config, device: torch.device) -> VideoSession:
    """Read a session.

    Args:
        clip: the clip that the session is about, opened by the caller; or the whole of which it is a part.
        config: of the model that will go on with it.
        device: where memories and pointers go.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a session, or belongs to another clip or model.
    """
    file = _opened(path)
    content = _content(file, path)
    clip = _part_of(content, clip, path)
    _check_fit(content, clip, config, path)
    try:
        return _session(content, clip, config, file, device)
    except ODD_SESSION as error:
        raise ValueError(f"{path} is damaged ({error}); save the session again") from error


def reopen_session(path: Path, clip: Clip) -> VideoSession:
    """Read a session to look at it, without the model that made it; arguments and errors as for `read_session`."""
    try:
        config = SAM2Config.from_dict(_content(_opened(path), path)["model"])
    except ODD_SESSION as error:
        raise ValueError(f"{path} is damaged ({error}); save the session again") from error
    return read_session(path, clip, config, torch.device("cpu"))


def _session(content: dict[str, Any], clip: Clip, config: SAM2Config, file: Any, device: torch.device) -> VideoSession:
    options = content["options"]
    session = VideoSession(
        clip,
        VideoOptions(**{**options, "memory_dtype": _DTYPES[options["memory_dtype"]]}),
        run=int(content["run"]),
        pointer_frames=None if content["pointer_frames"] is None else _pointer_frames(content["pointer_frames"]),
    )
    reader = _Reader(file, session, config, device)
    for number, stated in enumerate(content["tracks"]):
        if not isinstance(stated["id"], (str, int)):
            raise ValueError(f"{stated['id']!r} is no object id")
        session.tracks[stated["id"]] = reader.track(f"{number}", stated)
    if len(content["plan"]) > 2 * len(clip):
        raise ValueError(f"its plan has {len(content['plan'])} steps for {len(clip)} frames")
    session.plan = deque(
        Step(session.checked_frame(frame), bool(reverse), tuple(ids), int(since))
        for frame, reverse, ids, since in content["plan"]
    )
    session.mend_plan()
    return session


def _pointer_frames(stated: int) -> int:
    if stated not in range(1, POINTER_FRAMES + 1):
        raise ValueError(f"pointers look back 1 to {POINTER_FRAMES} frames, not {stated!r}")
    return stated


def _opened(path: Path) -> Any:
    file, stated = open_session_file(path)
    if stated == PICTURE_FORMAT:
        raise ValueError(f"{path} is a session of a picture; open it as one, without a clip")
    if stated != VIDEO_FORMAT:
        raise ValueError(f"{path} is not a session file, or was written by another version of sam2kit")
    return file


def _content(file: Any, path: Path) -> dict[str, Any]:
    try:
        content = parse_json(file.metadata()["session"], str(path))
        clip = content["clip"]
        known = isinstance(clip["path"], (str, type(None))) and isinstance(clip["fingerprint"], str)
        if not known or len(clip["size_hw"]) != 2:
            raise ValueError("it does not say what its clip is")
    except ODD_SESSION as error:
        raise ValueError(f"{path} is damaged ({error}); save the session again") from error
    return content


def _part_of(content: dict[str, Any], clip: Clip, path: Path) -> Clip:
    """The part of a clip that the session is about; the clip itself if that is not a part of it."""
    try:
        start, stop, step = (int(n) for n in content["clip"].get("part") or (0, len(clip), 1))
    except ODD_SESSION as error:
        raise ValueError(f"{path} is damaged ({error}); save the session again") from error
    part = range(start, stop, step) if step > 0 else range(0)
    if part in (range(len(clip)), clip.source_frames) or not 0 <= start < stop <= len(clip) + step - 1:
        return clip
    return clip.cut(start, min(stop, len(clip)), step)


def _check_fit(content: dict[str, Any], clip: Clip, config: SAM2Config, path: Path) -> None:
    stated = content["clip"]
    if stated["fingerprint"] != clip.fingerprint():
        height, width = stated["size_hw"]
        raise ValueError(
            f"{path} belongs to another clip: it needs {stated.get('frames')} frames of {width}x{height} that look the "
            f"same, at the same times; got {len(clip)} frames of {clip.size_hw[1]}x{clip.size_hw[0]}"
        )
    # as JSON, where tuples are lists
    if content.get("model") != json.loads(json.dumps(config.as_dict())):
        raise ValueError(f"{path} was made with another model size, version or side; load the same model to go on")


def _track_out(number: str, object_id: Hashable, track: ObjectTrack, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The JSON of one track; its numbers go to `tensors` under names that begin with `number`."""
    for frame, memory in track.memories.items():
        tensors[f"{number}/memory/{frame}"] = memory.cpu().contiguous()
    _results_out(f"{number}/prompted", track.prompted, tensors)
    _results_out(f"{number}/tracked", track.tracked, tensors)
    tensors[f"{number}/directions"] = torch.tensor(list(track.directions.items()), dtype=torch.int64).reshape(-1, 2)
    return {
        "id": object_id,
        "prompts": {str(f): _prompt_out(f"{number}/mask/{f}", p, tensors) for f, p in track.prompts.items()},
        "memories": list(track.memories),
    }


def _prompt_out(name: str, prompt: FramePrompt, tensors: dict[str, Tensor]) -> dict[str, Any]:
    if prompt.mask is not None:
        tensors[name] = torch.from_numpy(np.packbits(prompt.mask))
        return {"mask": True}
    return {
        "points": prompt.points_xy.tolist(),
        "labels": prompt.labels.tolist(),
        "box": None if prompt.box_xyxy is None else prompt.box_xyxy.tolist(),
    }


def _results_out(name: str, results: dict[int, FrameResult], tensors: dict[str, Tensor]) -> None:
    """One row of numbers per answer, all logits in one tensor, all pointers in another."""
    packed = [r.logits.png if isinstance(r.logits, CompactLogits) else b"" for r in results.values()]
    if any(packed):
        tensors[f"{name}/logits"] = torch.frombuffer(bytearray(b"".join(packed)), dtype=torch.uint8)
    elif results:
        tensors[f"{name}/logits"] = torch.stack([r.logits.tensor() for r in results.values()])
    if results:
        tensors[f"{name}/pointers"] = torch.stack([r.pointer.cpu() for r in results.values()])
    rows = [
        [f, r.object_score, r.predicted_iou, r.prompted, r.run, len(p)]
        for (f, r), p in zip(results.items(), packed, strict=True)
    ]
    tensors[f"{name}/rows"] = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)


class _Reader:
    """Reads the tracks of one session file."""

    def __init__(self, file: Any, session: VideoSession, config: SAM2Config, device: torch.device) -> None:
        self.file, self.session, self.config, self.device = file, session, config, device

    def track(self, number: str, stated: dict[str, Any]) -> ObjectTrack:
        """One object."""
        grid = self.config.embedding_side
        memories = {f: self.file.get_tensor(f"{number}/memory/{f}") for f in map(self._frame, stated["memories"])}
        wanted = (self.config.memory.dim, grid, grid)
        if any(tuple(m.shape) != wanted or not _are_numbers(m) for m in memories.values()):
            raise ValueError(f"a memory is not {list(wanted)} of finite numbers")
        directions = self.file.get_tensor(f"{number}/directions").tolist()
        return ObjectTrack(
            prompts={self._frame(f): self._prompt(f"{number}/mask/{f}", p) for f, p in stated["prompts"].items()},
            prompted=self._results(f"{number}/prompted"),
            tracked=self._results(f"{number}/tracked"),
            directions={self._frame(f): bool(reverse) for f, reverse in directions},
            memories={f: m.to(self.device) for f, m in memories.items()},
        )

    def _frame(self, stated: str | float) -> int:
        return self.session.checked_frame(int(stated))

    def _prompt(self, name: str, stated: dict[str, Any]) -> FramePrompt:
        if "mask" in stated:
            height, width = self.session.clip.size_hw
            packed = self.file.get_tensor(name).numpy()
            if packed.shape != (-(-height * width // 8),):
                raise ValueError(f"a mask of {width}x{height} pixels has {packed.size} bytes")
            bits = np.unpackbits(packed, count=height * width)
            return FramePrompt(mask=bits.reshape(height, width).astype(bool))
        points = np.array(stated["points"], np.float32).reshape(-1, 2)
        return FramePrompt(points, np.array(stated["labels"]), stated["box"])

    def _results(self, name: str) -> dict[int, FrameResult]:
        table = self.file.get_tensor(f"{name}/rows")
        rows = table.tolist()
        if not rows:
            return {}
        if not _are_numbers(table):
            raise ValueError("the scores of its answers are no finite numbers")
        logits = self.file.get_tensor(f"{name}/logits")
        pointers = self.file.get_tensor(f"{name}/pointers").to(self.device)
        if pointers.shape != (len(rows), self.config.hidden_dim) or not _are_numbers(pointers):
            raise ValueError(f"object pointers are {list(pointers.shape)} {pointers.dtype}, or not finite")
        exact = logits.dtype != torch.uint8
        if exact and len(logits) != len(rows):
            raise ValueError(f"{len(rows)} answers have {len(logits)} maps of logits")
        results, start = {}, 0
        for i, (frame, score, iou, prompted, run, length) in enumerate(rows):
            stop = start + int(length)
            stored = ExactLogits(logits[i]) if exact else CompactLogits(logits[start:stop].numpy().tobytes())
            if stop > len(logits) and not exact:
                raise ValueError(f"the answer for frame {int(frame)} is cut off")
            stored.check((self.config.low_res_side, self.config.low_res_side))
            results[self._frame(frame)] = FrameResult(stored, score, iou, pointers[i].clone(), bool(prompted), int(run))
            start = stop
        return results


def _are_numbers(values: Tensor) -> bool:
    return values.is_floating_point() and bool(values.isfinite().all())
