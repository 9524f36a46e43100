"""What a session answers: one object on one frame (FrameResult), and all of them together (FrameMasks).

What a predictor returns for the frame at hand has its logits in full. So have prompted frames in the session; tracked
ones are stored packed there, unless `exact_logits` was chosen. Reading an answer cleans it, and leaves each pixel to
one object if that was asked for; on a GPU as long as the frame is at hand there, else on the CPU.

Packed logits are an 8-bit PNG, a tenth of the floats or less. They are cut off at +-8, where the sigmoid is flat, and
rounded to 1/16, far below what moves an edge. Everything that happens afterwards, memories included, is computed from
the rounded logits, so a memory that is made again later comes out the same. Packing takes longer than a GPU's frame, so
threads do it, and nobody waits for them.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2kit.hardware import usable_cores
from sam2kit.media.drawing import grow_mask
from sam2kit.model.sam2 import ABSENT_LOGIT
from sam2kit.predict.geometry import mask_to_logits, masks_to_image
from sam2kit.predict.image import detections_of
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.prompts import FramePrompt

if TYPE_CHECKING:
    import supervision

_OVERLAPPED = -10.0  # highest logit of a pixel that belongs to another object
_LIMIT, _STEPS, _MOST_LEVEL = 8.0, 16, 255  # logits; steps per logit
_HEADER = struct.Struct(">8sI4sIIBB")  # of a PNG: signature, length, "IHDR", width, height, bits, kind of colour
_SIGNATURE, _GREY = b"\x89PNG\r\n\x1a\n", 0
_WAITING = BoundedSemaphore(256)  # maps that are to be packed, 64 kB each; more are packed at once


def levels_of(logits: Tensor) -> Tensor:
    """Logits of any shape -> uint8 of the same: cut off and rounded."""
    whole = ((logits.float().clamp(-_LIMIT, _LIMIT) + _LIMIT) * _STEPS).round()
    return whole.clamp(max=_MOST_LEVEL).to(torch.uint8)


def logits_of(levels: Tensor) -> Tensor:
    """uint8 levels -> float32 logits."""
    return levels.float() / _STEPS - _LIMIT


class CompactLogits:
    """One map of logits as PNG."""

    at_hand = None  # they are on the CPU only

    def __init__(self, png: bytes = b"", levels: np.ndarray | None = None) -> None:
        self._png = png
        self._levels = levels  # uint8 [h, w], until they are packed

    @classmethod
    def of(cls, logits: Tensor) -> CompactLogits:
        """[h, w] float logits -> rounded, and packed by another thread soon, or by who asks for it before."""
        made = cls(levels=levels_of(logits).cpu().numpy())
        if _WAITING.acquire(blocking=False):
            _packers().submit(made._pack).add_done_callback(lambda _: _WAITING.release())
        else:
            made._pack()
        return made

    def _pack(self) -> None:
        levels = self._levels  # two threads may do it, with the same result
        if levels is not None:
            self._png = cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
            self._levels = None

    @property
    def png(self) -> bytes:
        """The packed bytes."""
        self._pack()
        return self._png

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompactLogits) and self.png == other.png

    def __hash__(self) -> int:
        return hash(self.png)

    def __reduce__(self) -> tuple[type[CompactLogits], tuple[bytes]]:
        return CompactLogits, (self.png,)

    def check(self, size_hw: tuple[int, int]) -> None:
        """Raises ValueError unless this is a grey PNG of this size; for bytes that came from a file."""
        header = _HEADER.unpack(self.png[: _HEADER.size]) if len(self.png) > _HEADER.size else ()
        if header[:1] + header[2:] != (_SIGNATURE, b"IHDR", size_hw[1], size_hw[0], 8, _GREY):
            raise ValueError(f"logits must be an 8-bit grey PNG of {size_hw[1]}x{size_hw[0]} pixels")

    def tensor(self) -> Tensor:
        """[h, w] float32 logits on the CPU."""
        levels = self._levels
        if levels is None:
            levels = cv2.imdecode(np.frombuffer(self.png, np.uint8), cv2.IMREAD_UNCHANGED)
        if levels is None:
            raise ValueError("packed logits are damaged; track this frame again")
        return logits_of(torch.from_numpy(levels))


@cache
def _packers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(4, usable_cores()), thread_name_prefix="pack logits")


@dataclass
class ExactLogits:
    """One map of logits as it came, for bit-exact comparisons."""

    values: Tensor  # [h, w] float32 on the CPU
    at_hand: Tensor | None = field(default=None, compare=False)  # the same on a GPU, while its frame is the latest

    def check(self, size_hw: tuple[int, int]) -> None:
        """Raises ValueError unless this is a map of finite numbers of this size."""
        got = self.values
        if tuple(got.shape) != size_hw or got.dtype != torch.float32 or not bool(got.isfinite().all()):
            raise ValueError(f"logits must be finite float32 {list(size_hw)}, got {got.dtype} {list(got.shape)}")

    def tensor(self) -> Tensor:
        """[h, w] float32 logits on the CPU."""
        return self.values


@dataclass(frozen=True)
class CandidateMasks:
    """The M candidates that the model gave for one prompt of one object; the best was chosen."""

    logits: Tensor  # [M, h, w] float32 low-res mask logits on the CPU
    predicted_iou: Tensor  # [M] float32 on the CPU
    pointers: Tensor  # [M, dim] float32 object pointers


@dataclass(frozen=True)
class FrameResult:
    """What the model answered for one object on one frame."""

    logits: CompactLogits | ExactLogits  # low-res mask logits, as decoded; of a refined mask at the picture's size
    object_score: float  # logit; > 0 where the object is in the picture
    predicted_iou: float  # 0..1
    pointer: Tensor  # [dim] float32 object pointer
    prompted: bool  # a person asked for it
    run: int = 0  # number of the propagation that made it
    area: int = 0  # positive low-res pixels, where memories are "anchored"
    anchor: bool = False  # recalled for longer; see memory_selection.py
    candidates: CandidateMasks | None = None  # of a prompt that had several
    chosen: int = 0  # which of them this is
    prompt: FramePrompt | None = field(default=None, compare=False)  # what it answers

    @property
    def present(self) -> bool:
        """Whether the model sees the object on this frame."""
        return self.object_score > 0

    @property
    def given(self) -> np.ndarray | None:
        """bool [H, W] where it is a mask that a person gave, and not the model's."""
        return None if self.prompt is None else self.prompt.mask

    def is_reliable(self, least_iou: float) -> bool:
        """Whether later frames should recall it: a person asked for it, or the model is sure enough of it."""
        return self.prompted or (self.present and self.predicted_iou > least_iou)

    @property
    def candidate_count(self) -> int:
        """How many masks can be chosen from."""
        return 1 if self.candidates is None else len(self.candidates.logits)

    def choose(self, candidate: int) -> FrameResult:
        """The same with another of its candidates."""
        assert self.candidates is not None, "there is something to choose from"
        return replace(
            self,
            logits=ExactLogits(self.candidates.logits[candidate]),
            predicted_iou=self.candidates.predicted_iou[candidate].item(),
            pointer=self.candidates.pointers[candidate],
            chosen=candidate,
        )

    def refined(self, mask: np.ndarray) -> FrameResult:
        """The same with a mask bool [H, W] at the size of the picture, packed, in place of the model's own logits."""
        logits = CompactLogits(levels=np.where(mask, _MOST_LEVEL, 0).astype(np.uint8))
        return replace(self, logits=CompactLogits(logits.png), candidates=None, chosen=0, prompted=True)

    def stored(self, options: VideoOptions) -> FrameResult:
        """As a session keeps it: packed, unless the options want exact logits."""
        if isinstance(self.logits, CompactLogits):
            return self
        logits = ExactLogits(self.logits.values) if options.exact_logits else CompactLogits.of(self.logits.values)
        return replace(self, logits=logits, candidates=None, chosen=0)

    def low_res(self, options: VideoOptions | None = None) -> Tensor:
        """[1, h, w] float32 low-res mask logits on the CPU; ABSENT_LOGIT all over where the object is absent.

        Args:
            options: say which holes are filled; None leaves all.
        """
        logits = self.unfilled()[None]
        return logits if options is None else options.filled(logits)

    def unfilled(self, device: torch.device | None = None) -> Tensor:
        """[h, w] float32 low-res mask logits with their holes; on the CPU, or another device."""
        here = self.logits.at_hand
        logits = self.logits.tensor() if here is None or device != here.device else here
        if not self.present and not self.prompted:
            logits = torch.full_like(logits, ABSENT_LOGIT)
        return logits if device is None else logits.to(device)

    def release(self) -> None:
        """Keep nothing on a GPU; the logits on the CPU stay."""
        if isinstance(self.logits, ExactLogits):
            self.logits.at_hand = None


@dataclass(frozen=True, eq=False)
class FrameMasks:
    """The masks of B objects on one frame."""

    frame_index: int
    object_ids: tuple[Hashable, ...]  # objects that have an answer on this frame
    results: tuple[FrameResult, ...]
    numbers: tuple[int, ...]  # of the objects in their session, from 1; the same on all frames
    size_hw: tuple[int, int]  # of the clip, in pixels
    options: VideoOptions
    names: tuple[str, ...] = ()  # of the objects

    def __len__(self) -> int:
        return len(self.object_ids)

    def __repr__(self) -> str:
        height, width = self.size_hw
        return f"FrameMasks(frame {self.frame_index}, {width}x{height}, objects: {list(self.object_ids)})"

    def __iter__(self) -> Iterator[tuple[Hashable, np.ndarray]]:
        """(object id, bool [H, W] mask) pairs."""
        return iter(zip(self.object_ids, self.masks, strict=True))

    @property
    def low_res(self) -> Tensor:
        """[B, 1, h, w] float32 low-res mask logits on the CPU, cleaned."""
        return torch.cat(self._low_res(None)) if self.results else torch.zeros(0, 1, 1, 1)

    def _low_res(self, device: torch.device | None) -> list[Tensor]:
        """Together where they have one size: on a picture, several models may have answered, and masks be refined."""
        cleaned = []
        for _, group in groupby(((r, r.unfilled(device)) for r in self.results), lambda one: one[1].shape):
            results, logits = zip(*group, strict=True)
            clicked = self._clicked(results, logits[0].shape)
            cleaned.append(self.options.cleaned(torch.stack(logits)[:, None], clicked))
        return cleaned

    def _clicked(self, results: Sequence[FrameResult], grid_hw: tuple[int, int]) -> Tensor | None:
        """[B, 1, h, w] bool, see `FramePrompt.clicked`; None if that is of no use."""
        if not self.options.keep_clicked or all(r.prompt is None for r in results):
            return None
        return torch.stack([(r.prompt or FramePrompt()).clicked(self.size_hw, grid_hw) for r in results])

    @property
    def logits(self) -> Tensor:
        """[B, H, W] float32 mask logits on the CPU, at the size of the clip."""
        return self.logits_at(self.size_hw)

    @property
    def masks(self) -> np.ndarray:
        """bool [B, H, W]."""
        return self.masks_at(self.size_hw)

    def masks_at(self, size_hw: tuple[int, int]) -> np.ndarray:
        """bool [B, *size_hw], grown or shrunk as the options say; where masks are exclusive, not over others."""
        device = next((r.logits.at_hand.device for r in self.results if r.logits.at_hand is not None), None)
        masks = (self.logits_at(size_hw, device) > 0).cpu().numpy()
        if not self.options.grow:
            return masks
        pixels, taken = self.options.grow * size_hw[0] / self.size_hw[0], masks.any(axis=0)
        for i, mask in enumerate(masks):
            grown = grow_mask(mask, pixels)
            masks[i] = grown & (mask | ~taken) if self.options.exclusive else grown
            taken |= masks[i]
        return masks

    @property
    def ungrown(self) -> np.ndarray:
        """bool [B, H, W] as `masks`, not grown or shrunk: what becomes a prompt, and grows when it is shown."""
        return replace(self, options=replace(self.options, grow=0.0)).masks

    @property
    def object_scores(self) -> np.ndarray:
        """float32 [B] logits; > 0 where the object is in the picture."""
        return np.array([r.object_score for r in self.results], np.float32)

    @property
    def predicted_iou(self) -> np.ndarray:
        """float32 [B] in 0..1."""
        return np.array([r.predicted_iou for r in self.results], np.float32)

    def logits_at(self, size_hw: tuple[int, int], device: torch.device | None = None) -> Tensor:
        """[B, *size_hw] float32 mask logits; made on the CPU, or another device."""
        if not self.results:
            return torch.zeros(0, *size_hw)
        logits = torch.cat([masks_to_image(part, size_hw)[:, 0] for part in self._low_res(device)])
        for i, result in enumerate(self.results):
            if self.options.keeps_given_masks and result.given is not None:
                logits[i] = mask_to_logits(result.given, size_hw)[0]
        if not self.options.exclusive:
            return logits
        mine = torch.arange(len(logits), device=logits.device)[:, None, None] == logits.argmax(dim=0, keepdim=True)
        return torch.where(mine, logits, logits.clamp(max=_OVERLAPPED))

    def release(self) -> None:
        """Keep nothing on a GPU: called when the next frame is at hand."""
        for result in self.results:
            result.release()

    def mask(self, object_id: Hashable) -> np.ndarray:
        """bool [H, W] mask of one object, by its id or else its name.

        Raises:
            KeyError: if the object has no answer on this frame.
        """
        for known in (self.object_ids, self.names):
            if object_id in known:
                return self.masks[list(known).index(object_id)]
        known_ids = ", ".join(map(repr, self.object_ids)) or "no object has"
        raise KeyError(f"object {object_id!r} has no mask on frame {self.frame_index}; these have: {known_ids}")

    def to_detections(self) -> supervision.Detections:
        """As `supervision.Detections`, without absent objects; confidence is the predicted IoU.

        `tracker_id` is the object's number, the same on all frames; `class_id` is the same number from 0, and
        `data["class_name"]` the object's name, so that annotators give each object its own colour and label.
        """
        masks = self.masks
        present = masks.any(axis=(1, 2))
        numbers = np.array(self.numbers, int)[present]
        names = np.array(self.names or [str(i) for i in self.object_ids], dtype=str)[present]
        found = detections_of(masks[present], self.predicted_iou[present], class_id=numbers - 1, names=names)
        found.tracker_id = numbers
        return found
