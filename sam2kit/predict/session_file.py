"""A session as one file: prompts, answers, memories, what was left to do, and of a picture the picture itself.

safetensors: tensors, and everything else as JSON in the header, so that opening a file from a stranger runs no code;
what it says is checked before it is believed. The frames of a video are not in it; the clip is recognised by its
fingerprint. A picture is in it as PNG, which loses nothing, so it opens without the photo.
"""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sam2kit.config import SAM2Config, check_whole
from sam2kit.files import MALFORMED, atomic_write, check_file, parse_json
from sam2kit.media.clip import Clip
from sam2kit.media.clips import ClipSource, FrameList, open_clip
from sam2kit.media.pictures import read_picture
from sam2kit.model.memory_bank import POINTER_FRAMES
from sam2kit.predict.frame_masks import CandidateMasks, CompactLogits, ExactLogits, FrameResult
from sam2kit.predict.objects import MOST_OBJECTS, ObjectId, Step, TrackedObject, checked_id
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.prompts import FramePrompt

if TYPE_CHECKING:
    from sam2kit.predict.session import Session

FORMAT = "sam2kit session 2"
_DTYPES = {str(d): d for d in (torch.bfloat16, torch.float16, torch.float32, torch.float64)}
_MOST_NUMBER = 100_000
_MOST_CANDIDATES = 16


class _DoesNotFitError(ValueError):
    """A whole file, for another clip or model."""


@contextmanager
def _as_damage(path: Path) -> Iterator[None]:
    """What a damaged or made-up session makes its readers stumble over is told as one ValueError."""
    try:
        yield
    except _DoesNotFitError:
        raise
    except (*MALFORMED, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged ({error}); save the session again") from error


# writing


def write_session(session: Session, path: Path, *, with_path: bool) -> Path:
    """Write a session; a crash while writing leaves the file that was there. Arguments and errors as `Session.save`."""
    if session.config is None:
        raise ValueError("say which model has answered: session.config = model.config")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to save the session in")
    tensors, png = dict[str, Tensor](), io.BytesIO()
    if session.is_picture:
        Image.fromarray(session.clip.frame(0)).save(png, "PNG", compress_level=4)
        tensors["picture"] = _bytes_out(png.getvalue())
    content = {
        "clip": _clip_out(session, with_path=with_path),
        "options": {**asdict(session.options), "memory_dtype": str(session.options.memory_dtype)},
        "model": session.config.as_dict(),
        "run": session.run,
        "pointer_frames": session.pointer_frames,
        "plan": [
            [s.frame, s.reverse, [i for i in s.object_ids if i in session.objects], s.since] for s in session.plan
        ],
        "objects": [_object_out(f"{n}", i, item, tensors) for n, (i, item) in enumerate(session.objects.items())],
        "active": session.active,
    }
    try:
        with atomic_write(path) as unfinished:
            # not save_file, which would leave files of its own behind if it were killed, every minute another
            unfinished.write_bytes(save(tensors, {"format": FORMAT, "session": json.dumps(content)}))
    except SafetensorError as error:
        raise OSError(f"the session could not be written to {path} ({error}); choose another place") from error
    return path


def _clip_out(session: Session, *, with_path: bool) -> dict[str, Any]:
    clip, frames, part = session.clip, session.frames, session.clip.source_frames
    return {
        "fingerprint": clip.fingerprint(),
        "path": str(clip.origin.resolve()) if with_path and clip.origin is not None else None,
        "file_name": session.file_name,
        "picture": session.is_picture,
        "frames": len(clip),
        "size_hw": list(clip.size_hw),
        "part": [part.start, part.stop, part.step],  # of the whole clip's frames
        "in_use": [frames.start, frames.stop, frames.step],
    }


def _object_out(number: str, object_id: ObjectId, item: TrackedObject, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The JSON of one object; its numbers go to `tensors` under names that begin with `number`."""
    for frame, memory in item.memories.items():
        tensors[f"{number}/memory/{frame}"] = memory.cpu().contiguous()
    _results_out(f"{number}/prompted", item.prompted, tensors)
    _results_out(f"{number}/tracked", item.tracked, tensors)
    tensors[f"{number}/directions"] = torch.tensor(list(item.directions.items()), dtype=torch.int64).reshape(-1, 2)
    chosen = {f: r for f, r in item.prompted.items() if r.candidates is not None}
    for frame, result in chosen.items():
        for name, values in vars(result.candidates).items():
            tensors[f"{number}/candidates/{frame}/{name}"] = values.cpu().contiguous()
    return {
        "id": object_id,
        "number": item.number,
        "name": item.name,
        "prompts": {str(f): _prompt_out(f"{number}/mask/{f}", p, tensors) for f, p in item.prompts.items()},
        "memories": list(item.memories),
        "chosen": {str(f): r.chosen for f, r in chosen.items()},
    }


def _prompt_out(name: str, prompt: FramePrompt, tensors: dict[str, Tensor]) -> dict[str, Any]:
    if prompt.mask is not None:
        tensors[name] = torch.from_numpy(np.packbits(prompt.mask))
        return {"mask": True}
    box = None if prompt.box_xyxy is None else prompt.box_xyxy.tolist()
    real = prompt.labels >= 0  # others fill up a row
    return {"points": prompt.points_xy[real].tolist(), "labels": prompt.labels[real].tolist(), "box": box}


def _results_out(name: str, results: dict[int, FrameResult], tensors: dict[str, Tensor]) -> None:
    """One row of numbers per answer, all logits in one tensor, all pointers in another."""
    packed = [r.logits.png if isinstance(r.logits, CompactLogits) else b"" for r in results.values()]
    if any(packed):
        tensors[f"{name}/logits"] = _bytes_out(b"".join(packed))
    elif results:
        tensors[f"{name}/logits"] = torch.stack([r.logits.tensor() for r in results.values()])
    if results:
        tensors[f"{name}/pointers"] = torch.stack([r.pointer.cpu() for r in results.values()])
    answers = zip(results.items(), packed, strict=True)
    rows = [[f, r.object_score, r.predicted_iou, r.prompted, r.run, len(p), r.area, r.anchor] for (f, r), p in answers]
    tensors[f"{name}/rows"] = torch.tensor(rows, dtype=torch.float64).reshape(-1, 8)


def _bytes_out(values: bytes) -> Tensor:
    return torch.frombuffer(bytearray(values), dtype=torch.uint8)


# reading


def read_session(
    kind: type[Session], path: Path, source: ClipSource | None, *, config: SAM2Config | None, device: torch.device
) -> Session:
    """Read a session of this class. Arguments and errors as for `Session.load`."""
    file, content = _opened(path)
    with _as_damage(path):
        known = SAM2Config.from_dict(content["model"])
        if config is not None and known != config:
            raise _DoesNotFitError(
                f"{path} was made with another model size, version or side; load the same model to go on"
            )
    whole = _clip_of(path, file, content["clip"], source)
    try:
        with _as_damage(path):
            clip = _checked_part(content["clip"], whole, path)
            return _Reader(file, content, clip, known, device).session(kind)
    except ValueError:
        if whole is not source:  # we opened it
            whole.close()
        raise


def is_picture_session(path: Path) -> bool:
    """Whether a session file is about a picture, and holds it; an error as of `Session.load` if it is no such file."""
    return bool(_opened(path)[1]["clip"]["picture"])


def session_clip_path(path: Path) -> Path | None:
    """Where the clip of a session file was when it was written; None if the file does not say."""
    stated = _opened(path)[1]["clip"]["path"]
    return None if stated is None else Path(stated)


def _opened(path: Path) -> tuple[Any, dict[str, Any]]:
    """An open session file and the JSON in it."""
    check_file(path, "session file")
    try:
        file = safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a session file ({error})") from error
    about = file.metadata() or {}
    if about.get("format") != FORMAT:
        raise ValueError(f"{path} is not a session file, or was written by another version of sam2kit")
    with _as_damage(path):
        content = parse_json(about["session"], str(path))
        clip = content["clip"]
        known = isinstance(clip["path"], (str, type(None))) and isinstance(clip["fingerprint"], str)
        if not known or len(clip["size_hw"]) != 2 or not isinstance(clip["picture"], bool):
            raise ValueError("it does not say what its clip is")
    return file, content


def _clip_of(path: Path, file: Any, stated: dict[str, Any], source: ClipSource | None) -> Clip:
    if source is not None:
        return open_clip(source)
    if stated["picture"]:
        with _as_damage(path):
            return FrameList([read_picture(file.get_tensor("picture").numpy().tobytes())])
    if stated["path"] is None:
        raise ValueError(f"{path} does not say where its clip is; give its frames as source")
    return open_clip(Path(stated["path"]))


def _checked_part(stated: dict[str, Any], clip: Clip, path: Path) -> Clip:
    """The part of a clip that the session is about, or the clip itself; an error if it is another clip."""
    start, stop, step = (int(n) for n in stated["part"])
    part = range(start, stop, step) if step > 0 else range(0)
    if part not in (range(len(clip)), clip.source_frames) and 0 <= start < stop <= len(clip) + step - 1:
        clip = clip.cut(start, min(stop, len(clip)), step)
    if stated["fingerprint"] != clip.fingerprint():
        height, width = stated["size_hw"]
        raise _DoesNotFitError(
            f"{path} belongs to another clip: it needs {stated.get('frames')} frames of {width}x{height} that look the "
            f"same, at the same times; got {len(clip)} frames of {clip.size_hw[1]}x{clip.size_hw[0]}"
        )
    return clip


@dataclass(frozen=True)
class _Reader:
    """Reads one session file whose clip and model are known."""

    file: Any
    content: dict[str, Any]
    clip: Clip
    config: SAM2Config
    device: torch.device

    def session(self, kind: type[Session]) -> Session:
        """The whole session."""
        content, clip = self.content, self.clip
        options, pointers = content["options"], content["pointer_frames"]
        if pointers is not None:
            check_whole("pointer_frames", pointers, 1, POINTER_FRAMES)
        session = kind(
            clip,
            VideoOptions(**{**options, "memory_dtype": _DTYPES[options["memory_dtype"]]}),
            run=int(content["run"]),
            pointer_frames=pointers,
            config=self.config,
            file_name=str(content["clip"]["file_name"]),
        )
        session.work_on(range(*(int(n) for n in content["clip"]["in_use"])))
        session.objects = self._objects()
        if content["active"] is not None:
            session.select(content["active"])
        if len(content["plan"]) > 2 * len(clip):
            raise ValueError(f"its plan has {len(content['plan'])} steps for {len(clip)} frames")
        session.plan = deque(
            Step(session.frame_in_use(frame), bool(reverse), tuple(ids), int(since))
            for frame, reverse, ids, since in content["plan"]
        )
        session.mend_plan()
        return session

    def _objects(self) -> dict[ObjectId, TrackedObject]:
        stated = self.content["objects"]
        if not isinstance(stated, list) or len(stated) > MOST_OBJECTS:
            raise ValueError(f"its objects are no list of at most {MOST_OBJECTS}")
        objects = {checked_id(one["id"]): self._object(f"{n}", one) for n, one in enumerate(stated)}
        for known in (objects, {o.number for o in objects.values()}, {o.name for o in objects.values()}):
            if len(known) < len(stated):
                raise ValueError("two objects have the same id, number or name")
        return objects

    def _object(self, number: str, stated: dict[str, Any]) -> TrackedObject:
        check_whole("number", stated["number"], 1, _MOST_NUMBER)
        shape = self.config.memory_shape
        memories = {f: self._numbers(f"{number}/memory/{f}", *shape) for f in map(self._frame, stated["memories"])}
        directions = self.file.get_tensor(f"{number}/directions").tolist()
        item = TrackedObject(
            prompts={self._frame(f): self._prompt(f"{number}/mask/{f}", p) for f, p in stated["prompts"].items()},
            prompted=self._results(f"{number}/prompted"),
            tracked=self._results(f"{number}/tracked"),
            directions={self._frame(f): bool(reverse) for f, reverse in directions},
            memories={f: memory.to(self.device) for f, memory in memories.items()},
            number=stated["number"],
            name=str(stated["name"]),
        )
        for text, chosen in stated["chosen"].items():
            frame = self._frame(text)
            found = self._candidates(f"{number}/candidates/{frame}")
            check_whole("chosen", chosen, 0, len(found.logits) - 1)
            item.prompted[frame] = replace(item.prompted[frame], candidates=found, chosen=chosen)
        for known in (item.prompted, item.tracked):
            known.update({f: replace(r, prompt=item.prompts.get(f)) for f, r in known.items() if r.prompted})
        return item

    def _candidates(self, name: str) -> CandidateMasks:
        count, *_ = self.file.get_slice(f"{name}/logits").get_shape()
        check_whole("candidates", count, 1, _MOST_CANDIDATES)  # before anything of that size is read
        side, pointer_length = self._answer_sizes
        logits = self._numbers(f"{name}/logits", count, side, side)
        iou = self._numbers(f"{name}/predicted_iou", count)
        pointers = self._numbers(f"{name}/pointers", count, pointer_length)
        return CandidateMasks(logits.float(), iou.float(), pointers.float().to(self.device))

    @property
    def _answer_sizes(self) -> tuple[int | None, int | None]:
        """Side of low-res logits, and length of pointers; any, of a picture: several models may have answered."""
        of_clip = self.config.low_res_side, self.config.hidden_dim
        return (None, None) if self.content["clip"]["picture"] else of_clip

    def _numbers(self, name: str, *wanted: int | None) -> Tensor:
        """A tensor of finite floats of this shape, in which None stands for any length."""
        shape = self.file.get_slice(name).get_shape()
        fits = len(shape) == len(wanted) and all(w in (None, n) for w, n in zip(wanted, shape, strict=True))
        values = self.file.get_tensor(name) if fits else torch.zeros(0, dtype=torch.int64)
        if not values.is_floating_point() or not bool(values.isfinite().all()):
            raise ValueError(f"{name} is no tensor {list(wanted)} of finite numbers, but {shape}")
        return values

    def _frame(self, stated: str | float) -> int:
        frame = int(stated)
        if not 0 <= frame < len(self.clip):
            raise ValueError(f"there is no frame {frame}")
        return frame

    def _prompt(self, name: str, stated: dict[str, Any]) -> FramePrompt:
        if "mask" not in stated:
            return FramePrompt(stated["points"], stated["labels"], stated["box"])
        height, width = self.clip.size_hw
        packed = self.file.get_tensor(name).numpy()
        if packed.shape != (-(-height * width // 8),):
            raise ValueError(f"a mask of {width}x{height} pixels has {packed.size} bytes")
        return FramePrompt(mask=np.unpackbits(packed, count=height * width).reshape(height, width).astype(bool))

    def _results(self, name: str) -> dict[int, FrameResult]:
        rows = self._numbers(f"{name}/rows", None, None).tolist()
        if not rows:
            return {}
        logits = self.file.get_tensor(f"{name}/logits")
        side, pointer_length = self._answer_sizes
        pointers = self._numbers(f"{name}/pointers", len(rows), pointer_length).to(self.device)
        exact = logits.dtype != torch.uint8
        if exact and len(logits) != len(rows):
            raise ValueError(f"{len(rows)} answers have {len(logits)} maps of logits")
        results, start = {}, 0
        for i, (frame, score, iou, prompted, run, length, *about) in enumerate(
            rows
        ):  # area, anchor; not in older files
            stop = start + int(length)
            if stop > len(logits) and not exact:
                raise ValueError(f"the answer for frame {int(frame)} is cut off")
            stored = ExactLogits(logits[i]) if exact else CompactLogits(logits[start:stop].numpy().tobytes())
            # on a picture, packed ones are of a refined mask, at its size
            size_hw = (side or logits.shape[-1],) * 2 if side or exact else self.clip.size_hw
            stored.check(size_hw)
            area, anchor = about or (0, 0)  # older files have none
            results[self._frame(frame)] = FrameResult(
                stored, score, iou, pointers[i].clone(), bool(prompted), int(run), int(area), bool(anchor)
            )
            start = stop
        return results
