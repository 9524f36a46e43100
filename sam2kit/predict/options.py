"""How predictors work: what differs between pictures, videos and the published predictors, and what is done for speed.

Weights and behaviour never mix: a model knows none of this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

from sam2kit.config import SAM2Config, check_number
from sam2kit.predict.geometry import clean_logits

MemorySelection = Literal["latest", "reliable", "anchored"]
CAREFUL: MemorySelection = "anchored"  # what "careful tracking" means
_ENCODED_TOGETHER = 4  # frames: a GPU is busy with a few, and a clip may be short
_SMALL_AREA = 8.0  # low-res pixels, of which nano's masks have 96 x 96; more cost boxes of small things
_MOST_EDGE = 1000.0  # pixels
_Options = TypeVar("_Options", bound="CleaningOptions")


@dataclass(frozen=True, kw_only=True)
class CleaningOptions:
    """How answers are cleaned; the model never sees that, but for the filled holes of a clip.

    None stands for what suits the model, which predictors find out: all of this where its config says `ragged_masks`,
    else nothing. Areas count pixels of the low-res logits (a sixteenth of the square's), or of a refined mask.
    """

    max_hole_area: float | None = None  # larger holes stay; 0 leaves all
    max_speck_area: float | None = None  # larger specks stay; 0 leaves all
    # only the parts of a mask stay that are under a positive click, or in the box that came with it; where there are
    # none, or no positive click was made, all stay
    keep_clicked: bool | None = None
    grow: float = 0.0  # pixels of the picture by which masks grow, or if it is negative shrink
    feather: float = 0.0  # pixels of the picture over which the edges of cut-outs and of transparent videos fade

    def __post_init__(self) -> None:
        for name in ("max_hole_area", "max_speck_area"):
            if (area := getattr(self, name)) is not None:
                check_number(name, area, least=0)
        check_number("grow", self.grow, -_MOST_EDGE, _MOST_EDGE)
        check_number("feather", self.feather, 0, _MOST_EDGE)

    def for_model(self: _Options, config: SAM2Config) -> _Options:
        """The same with what suits the model in place of None."""
        ragged = config.decoder.ragged_masks
        area = _SMALL_AREA if ragged else 0.0
        suitable: dict[str, Any] = {"max_hole_area": area, "max_speck_area": area, "keep_clicked": ragged}
        return replace(self, **{name: value for name, value in suitable.items() if getattr(self, name) is None})

    def changed(self: _Options, **changes: Any) -> _Options:
        """The same with some of these fields as given; None leaves one as it is."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def _cleaned(self, mask_logits: Tensor, clicked: Tensor | None, **levels: float) -> Tensor:
        areas = {"max_hole_area": self.max_hole_area or 0, "max_speck_area": self.max_speck_area or 0}
        return clean_logits(mask_logits, clicked=clicked if self.keep_clicked else None, **areas, **levels)


@dataclass(frozen=True)
class ImageOptions(CleaningOptions):
    """How logits become masks."""

    threshold: float = 0.0  # logit above which a pixel belongs to the object

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("threshold", self.threshold)

    def cleaned(self, mask_logits: Tensor, clicked: Tensor | None = None) -> Tensor:
        """[..., h, w] low-res mask logits, cleaned; `clicked` is what `Prompt.clicked` gives."""
        return self._cleaned(mask_logits, clicked, threshold=self.threshold)


@dataclass(frozen=True, kw_only=True)
class VideoOptions(CleaningOptions):
    """How a clip is worked on: `official()` as by the published video predictor, `for_pictures()` as by the image one.

    Of specks and holes, more is in `CleaningOptions`.
    """

    # a frame that is corrected after it was tracked becomes a conditioning frame, as in the published fine-tuning; else
    # the next tracking overwrites it, as in the newest published predictor
    corrected_frames_condition: bool = True
    # prompts that replace others still start from the earlier answer, and cleared ones leave theirs behind (published)
    replaced_prompts_linger: bool = False
    lenient_prompts: bool = False  # take clicks outside the clip, and corners of a box in any order (published)
    max_hole_area: float | None = 8.0  # as published
    remembered_hole_area: float | None = None  # larger holes stay in what the model sees of its answers; None: as above
    cleaned_logit: float = 0.1  # of pixels of filled holes; those of removed specks get its negative
    feeds_back_cleaned: bool = True  # holes of an earlier answer are filled before it becomes a mask prompt
    refines_with_one_mask: bool = False  # a single click on an earlier answer gets one mask, not three candidates
    # a mask that a person gave is shown as it was given, not cleaned; else as the model holds it, coarser (published)
    keeps_given_masks: bool = True
    blanks_absent: bool = True  # the mask is empty where the object score says that the object is absent
    # what later frames recall beside prompted ones: the latest frames (published), those on which the object was surely
    # there, or of these some also for longer, on which it was told from a look-alike; see memory_selection.py
    memory_selection: MemorySelection = "latest"
    reliable_iou: float = 0.3  # predicted, above which a frame is taken for reliable; in 0..1
    exclusive: bool = False  # a pixel belongs to one object only, the one with the highest logit
    exact_logits: bool = False  # store those of tracked frames in full, not rounded to 1/16 within +-8; far more space
    # the memory of a prompted frame is made from its thresholded mask (published), else from probabilities
    binary_prompted_memory: bool = True
    forget: bool = True  # keep only the memories near the current frame, and make others again when they are needed
    memory_dtype: torch.dtype = torch.bfloat16  # of stored memories, as published
    resizes_as_pictures: bool = False  # resize frames as the published image predictor does, see geometry.py
    features_on_cpu: bool = False  # the latest frames' wait there, so that many sessions fit beside a GPU's model

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory_selection not in get_args(MemorySelection):
            known = ", ".join(get_args(MemorySelection))
            raise ValueError(f"memory_selection is one of {known}, got {self.memory_selection!r:.80}")
        check_number("reliable_iou", self.reliable_iou, least=0)
        if self.remembered_hole_area is not None:
            check_number("remembered_hole_area", self.remembered_hole_area, least=0)

    @classmethod
    def official(cls, **changes: Any) -> VideoOptions:
        """As the newest published video predictor."""
        others: dict[str, Any] = {"replaced_prompts_linger": True, "lenient_prompts": True, "exact_logits": True}
        others |= {"max_speck_area": 0.0, "keep_clicked": False, "keeps_given_masks": False}
        return cls(**{"corrected_frames_condition": False, **others, **changes})

    @classmethod
    def for_pictures(cls, **changes: Any) -> VideoOptions:
        """As `ImagePredictor`, to the bit: what a picture, a clip of one frame, is opened with."""
        pictures: dict[str, Any] = {
            "max_hole_area": None,
            "cleaned_logit": 10.0,
            "feeds_back_cleaned": False,
            "refines_with_one_mask": True,
            "blanks_absent": False,
            "exact_logits": True,
            "resizes_as_pictures": True,
            "features_on_cpu": True,
        }
        return cls(**{**pictures, **changes})

    def cleaned(self, mask_logits: Tensor, clicked: Tensor | None = None) -> Tensor:
        """[..., h, w] low-res mask logits, cleaned; `clicked` is what `FramePrompt.clicked` gives."""
        return self._cleaned(mask_logits, clicked, beyond=self.cleaned_logit)

    def filled(self, mask_logits: Tensor) -> Tensor:
        """[..., h, w] low-res mask logits without small holes: what the model sees of its answers."""
        area = self.max_hole_area if self.remembered_hole_area is None else self.remembered_hole_area
        return clean_logits(mask_logits, max_hole_area=area or 0, beyond=self.cleaned_logit)

    def changed(self, **changes: Any) -> VideoOptions:
        """The same with some fields as given, of how answers are cleaned; what the model sees of them stays."""
        if self.remembered_hole_area is None and changes.get("max_hole_area") is not None:
            changes["remembered_hole_area"] = self.max_hole_area
        return super().changed(**changes)


@dataclass(frozen=True)
class SpeedOptions:
    """What is done for speed on a CUDA GPU; see pipelining.py and cuda_graphs.py. Masks stay the same but for rounding.

    None stands for what suits the device: 4 frames and keys on a CUDA GPU, nothing elsewhere.
    """

    frames_ahead: int | None = None  # that are encoded together before they are needed; 0 encodes each when it is
    memory_keys: bool | None = None  # keep the keys of memories, 8 MB each for a published model in 16 bits
    cuda_graphs: bool = False  # record a frame's work, per number of objects and prompted frames; takes seconds
    compile: bool = False  # compile the image encoder and the work of a frame, likewise; takes minutes

    def __post_init__(self) -> None:
        if self.frames_ahead is not None and self.frames_ahead < 0:
            raise ValueError(f"frames_ahead must be 0 frames or more, got {self.frames_ahead}")

    @classmethod
    def fastest(cls, *, compile: bool = False) -> SpeedOptions:
        """Everything that is prepared within seconds, or with `compile` everything."""
        return cls(frames_ahead=_ENCODED_TOGETHER, cuda_graphs=True, compile=compile)

    def encoded_together(self, device: torch.device) -> int:
        """How many frames are encoded together on a device."""
        if self.frames_ahead is None:
            return _ENCODED_TOGETHER if device.type == "cuda" else 0
        return self.frames_ahead
