"""What a video session answers: one object on one frame (FrameResult), and all of them together (FrameMasks).

What a predictor returns for the frame at hand has its logits in full. So have prompted frames in the session; tracked
ones are stored packed there, unless `exact_logits` was chosen. Reading an answer fills its small holes, and leaves each
pixel to one object if that was asked for; on a GPU as long as the frame is at hand there, else on the CPU.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from sam2kit.config import check_number
from sam2kit.model.sam2 import ABSENT_LOGIT
from sam2kit.predict.geometry import masks_to_image
from sam2kit.predict.image import detections_of
from sam2kit.predict.logits import CompactLogits, ExactLogits
from sam2kit.predict.masks import clean_logits

if TYPE_CHECKING:
    import supervision

_CORRECTIONS = ("stick", "recent", "lost")
_HOLE_FILLED_WITH = 0.1  # logit
_OVERLAPPED = -10.0  # highest logit of a pixel that belongs to another object


@dataclass(frozen=True)
class VideoOptions:
    """How a video is tracked. `official()` gives the published predictor's habits, for comparisons.

    Args:
        corrections: what becomes of a frame that is corrected after it was tracked: "stick" makes it a conditioning
            frame (what the published fine-tuning does too); "recent" keeps the answer but remembers it like any
            tracked frame (the first published predictor); "lost" lets the next tracking overwrite it (the newest).
        replaced_prompts_linger: prompts that replace earlier ones still start from the earlier answer, and cleared
            prompts leave their answer behind (published).
        lenient_prompts: clicks outside the clip, and the corners of a box in any order, are taken as they are
            (published); else they are refused as mistakes.
        max_hole_area: holes up to this many low-res pixels are filled; 0 leaves them.
        exclusive: a pixel belongs to one object only, the one with the highest logit.
        exact_logits: store logits of tracked frames in full, not rounded to 1/16 within +-8; takes far more space.
        binary_prompted_memory: the memory of a prompted frame is made from its thresholded mask (published), else from
            probabilities, like that of a tracked frame.
        forget: keep only the memories near the current frame, and make others again when they are needed.
        memory_dtype: of stored memories; the published predictor rounds them to bfloat16.
    Raises:
        ValueError: if `corrections` is none of the three, or `max_hole_area` no area.
    """

    corrections: Literal["stick", "recent", "lost"] = "stick"
    replaced_prompts_linger: bool = False
    lenient_prompts: bool = False
    max_hole_area: float = 8.0
    exclusive: bool = False
    exact_logits: bool = False
    binary_prompted_memory: bool = True
    forget: bool = True
    memory_dtype: torch.dtype = torch.bfloat16

    def __post_init__(self) -> None:
        if self.corrections not in _CORRECTIONS:
            raise ValueError(f"corrections must be one of {', '.join(_CORRECTIONS)}, got {self.corrections!r}")
        check_number("max_hole_area", self.max_hole_area, least=0)

    @classmethod
    def official(cls, **changes: Any) -> VideoOptions:
        """The habits of the newest published predictor."""
        habits: dict[str, Any] = {
            "corrections": "lost",
            "replaced_prompts_linger": True,
            "lenient_prompts": True,
            "exact_logits": True,
        }
        return cls(**{**habits, **changes})


@dataclass(frozen=True)
class FrameResult:
    """What the model answered for one object on one frame."""

    logits: CompactLogits | ExactLogits  # low-res mask logits, as decoded
    object_score: float  # logit; > 0 where the object is in the picture
    predicted_iou: float  # 0..1
    pointer: Tensor  # [dim] float32 object pointer
    prompted: bool  # a person asked for it
    run: int = 0  # number of the propagation that made it

    @property
    def present(self) -> bool:
        """Whether the model sees the object on this frame."""
        return self.object_score > 0

    def stored(self, options: VideoOptions) -> FrameResult:
        """As a session keeps it: packed, unless the options want exact logits."""
        if isinstance(self.logits, CompactLogits):
            return self
        logits = ExactLogits(self.logits.values) if options.exact_logits else CompactLogits.of(self.logits.values)
        return replace(self, logits=logits)

    def low_res(self, max_hole_area: float = 0.0) -> Tensor:
        """[1, h, w] float32 low-res mask logits on the CPU; ABSENT_LOGIT all over where the object is absent.

        Args:
            max_hole_area: holes up to this many low-res pixels are filled.
        """
        return clean_logits(self.unfilled()[None], max_hole_area=max_hole_area, beyond=_HOLE_FILLED_WITH)

    def unfilled(self, device: torch.device | None = None) -> Tensor:
        """[h, w] float32 low-res mask logits with their holes; on the CPU, or another device."""
        here = getattr(self.logits, "at_hand", None)
        logits = self.logits.tensor() if here is None or device != here.device else here
        if not self.present and not self.prompted:
            logits = torch.full_like(logits, ABSENT_LOGIT)
        return logits if device is None else logits.to(device)

    @property
    def device(self) -> torch.device | None:
        """The GPU on which the logits are at hand, if they are."""
        here = getattr(self.logits, "at_hand", None)
        return None if here is None else here.device

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
        """[B, 1, h, w] float32 low-res mask logits on the CPU, with small holes filled."""
        return self._low_res(None)

    def _low_res(self, device: torch.device | None) -> Tensor:
        if not self.results:
            return torch.zeros(0, 1, 1, 1)
        logits = torch.stack([r.unfilled(device) for r in self.results])[:, None]
        return clean_logits(logits, max_hole_area=self.options.max_hole_area, beyond=_HOLE_FILLED_WITH)

    @property
    def logits(self) -> Tensor:
        """[B, H, W] float32 mask logits on the CPU, at the size of the clip."""
        return self.logits_at(self.size_hw)

    @property
    def masks(self) -> np.ndarray:
        """bool [B, H, W]."""
        device = next((r.device for r in self.results if r.device is not None), None)
        return (self.logits_at(self.size_hw, device) > 0).cpu().numpy()

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
        logits = masks_to_image(self._low_res(device), size_hw)[:, 0]
        return _without_overlaps(logits) if self.options.exclusive else logits

    def release(self) -> None:
        """Keep nothing on a GPU: called when the next frame is at hand."""
        for result in self.results:
            result.release()

    def mask(self, object_id: Hashable) -> np.ndarray:
        """bool [H, W] mask of one object.

        Raises:
            KeyError: if the object has no answer on this frame.
        """
        if object_id not in self.object_ids:
            known = ", ".join(map(repr, self.object_ids)) or "no object has"
            raise KeyError(f"object {object_id!r} has no mask on frame {self.frame_index}; these have: {known}")
        return self.masks[self.object_ids.index(object_id)]

    def to_detections(self) -> supervision.Detections:
        """As `supervision.Detections`, without absent objects; confidence is the predicted IoU.

        `tracker_id` is the object's number, the same on all frames; `class_id` is the same number from 0, and
        `data["class_name"]` the object's id as text, so that annotators give each object its own colour and label.
        """
        masks = self.masks
        present = masks.any(axis=(1, 2))
        numbers = np.array(self.numbers, int)[present]
        names = np.array([str(i) for i in self.object_ids], dtype=str)[present]
        found = detections_of(masks[present], self.predicted_iou[present], class_id=numbers - 1, names=names)
        found.tracker_id = numbers
        return found


def _without_overlaps(logits: Tensor) -> Tensor:
    """[B, H, W] -> the same with every pixel left to the object of the highest logit."""
    winner = logits.argmax(dim=0, keepdim=True)
    mine = torch.arange(len(logits), device=logits.device)[:, None, None] == winner
    return torch.where(mine, logits, logits.clamp(max=_OVERLAPPED))
