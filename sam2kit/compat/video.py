"""The official video predictor.

Differences, all on purpose: corrections of tracked frames are kept (`add_all_frames_to_correct_as_cond=False` loses
them, as the newest official version does); frames are read as they are needed and results are kept packed on the CPU,
so the offload and asynchronous-loading switches change nothing, and returned logits are rounded to 1/16 and lie within
+-8 (`exact_logits=True` keeps them in full); any video file, GIF, folder of pictures with any names, or list of arrays
can be opened.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from sam2kit.compat.arrays import array_of, boxes_of
from sam2kit.compat.build import build_sam2, load_official
from sam2kit.media.clips import ClipSource
from sam2kit.model.sam2 import ABSENT_LOGIT, SAM2
from sam2kit.predict.frame_masks import VideoOptions
from sam2kit.predict.prompts import batched
from sam2kit.predict.session import FramePrompt, VideoSession
from sam2kit.predict.video import Direction, VideoPredictor

_BUILDERS_HOLE_AREA = 8  # what the official builder switches on

FrameMaskLogits = tuple[int, list[Hashable], Tensor]  # frame, object ids, logits [objects, 1, H, W]


class SAM2VideoPredictor:
    """The official video predictor's interface; the state it hands out is a VideoSession.

    Args:
        fill_hole_area: holes up to this many low-res pixels are filled.
        non_overlap_masks: a pixel belongs to one object only.
        add_all_frames_to_correct_as_cond: corrected frames become conditioning frames.
        exact_logits: do not round logits; takes many times the memory.
    """

    def __init__(
        self,
        model: SAM2,
        fill_hole_area: int = _BUILDERS_HOLE_AREA,
        non_overlap_masks: bool = False,
        add_all_frames_to_correct_as_cond: bool = True,
        exact_logits: bool = False,
    ) -> None:
        options = VideoOptions.official(
            corrections="stick" if add_all_frames_to_correct_as_cond else "lost",
            max_hole_area=fill_hole_area,
            exclusive=non_overlap_masks,
            exact_logits=exact_logits,
        )
        self.model = model
        self._predictor = VideoPredictor(model, options)

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2VideoPredictor:
        """Load the model of a Hub repo, or a preset or path, into a predictor."""
        return cls(load_official(model_id, kwargs.pop("device", "auto")), **kwargs)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def init_state(
        self,
        video_path: ClipSource,
        offload_video_to_cpu: bool = False,
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,
    ) -> VideoSession:
        """Open a video."""
        return self._predictor.open(video_path)

    def add_new_points_or_box(
        self,
        inference_state: VideoSession,
        frame_idx: int,
        obj_id: Hashable,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: ArrayLike | None = None,
    ) -> FrameMaskLogits:
        """Prompt a frame with clicks, a box, or both.

        Args:
            points: [N, 2] pixels (x, y) of the clip; within 0..1 when normalize_coords is False.
            labels: [N] 1 or 0.
            clear_old_points: forget the frame's earlier clicks of this object.
            box: [4] (x0, y0, x1, y1).
        Returns:
            frame, object ids and mask logits [objects, 1, H, W].
        """
        if (points is None) != (labels is None):
            raise ValueError("points and labels must be given together")
        if points is None and box is None:
            raise ValueError("give points or a box")
        if box is not None and not clear_old_points:
            raise ValueError("a box comes before all clicks: give it with clear_old_points=True")
        height, width = inference_state.clip.size_hw
        scale = np.array([1, 1] if normalize_coords else [width, height], np.float32)

        clicks = batched(points, 3, "points", "[N, 2] or [1, N, 2]", last=2, may_be_empty=True)
        prompt = FramePrompt(
            np.zeros((0, 2), np.float32) if clicks is None else clicks.reshape(-1, 2).numpy() * scale,
            np.zeros(0, np.int64) if labels is None else array_of(labels, "labels").reshape(-1),
            None if box is None else (boxes_of(box, "box") * scale).reshape(-1),
        )
        self._predictor.add_prompt(inference_state, frame_idx, obj_id, prompt, replace=clear_old_points)
        return self._shown(inference_state, frame_idx)

    def add_new_points(self, *args: Any, **kwargs: Any) -> FrameMaskLogits:
        """The older name of `add_new_points_or_box`."""
        return self.add_new_points_or_box(*args, **kwargs)

    def add_new_mask(
        self, inference_state: VideoSession, frame_idx: int, obj_id: Hashable, mask: ArrayLike | Tensor
    ) -> FrameMaskLogits:
        """Prompt a frame with a mask [H, W] of any size."""
        values = array_of(mask, "mask")
        if values.ndim != 2 or not values.size:
            raise ValueError(f"the mask must be [H, W], got shape {list(values.shape)}")
        # as the official version takes them: whatever is not 0, but shares of pixels in a tensor
        given = torch.from_numpy(values if isinstance(mask, Tensor) else (values != 0).astype(np.float32))
        if tuple(given.shape) != tuple(inference_state.clip.size_hw):
            size = inference_state.clip.size_hw
            given = F.interpolate(given[None, None], size, mode="bilinear", antialias=True, align_corners=False)[0, 0]
        prompt = FramePrompt(mask=(given >= 0.5).numpy())
        self._predictor.add_prompt(inference_state, frame_idx, obj_id, prompt, replace=True)
        return self._shown(inference_state, frame_idx)

    def propagate_in_video_preflight(self, inference_state: VideoSession) -> None:
        """Check that there is something to track; memories are made when they are needed."""
        self._predictor.plan(inference_state, 0, "forward", 0)

    def propagate_in_video(
        self,
        inference_state: VideoSession,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[FrameMaskLogits]:
        """Track all objects in one direction.

        Args:
            start_frame_idx: None starts at the first conditioning frame of all objects.
            max_frame_num_to_track: how many frames to go beyond the start.
            reverse: backwards; from frame 0 that is nothing at all, as in the official version.
        """
        self.propagate_in_video_preflight(inference_state)
        if start_frame_idx is None:
            start_frame_idx = min(min(t.prompted) for t in inference_state.tracks.values())
        if reverse and start_frame_idx == 0:
            return
        direction: Direction = "backward" if reverse else "forward"
        for frame in self._predictor.propagate(inference_state, start_frame_idx, direction, max_frame_num_to_track):
            yield self._shown(inference_state, frame.frame_index)

    def clear_all_prompts_in_frame(
        self, inference_state: VideoSession, frame_idx: int, obj_id: Hashable, need_output: bool = True
    ) -> FrameMaskLogits | None:
        """Take back the prompts of an object on a frame."""
        inference_state.clear(frame_idx, obj_id)
        return self._shown(inference_state, frame_idx) if need_output else None

    def remove_object(
        self, inference_state: VideoSession, obj_id: Hashable, strict: bool = False, need_output: bool = True
    ) -> tuple[list[Hashable], list[tuple[int, Tensor]]]:
        """Forget an object.

        Returns:
            the ids that are left, and (frame, mask logits) of the frames on which it was prompted.
        """
        if obj_id not in inference_state.tracks and not strict:
            return list(inference_state.object_ids), []
        prompted = sorted(inference_state.track(obj_id).prompts)
        inference_state.remove_object(obj_id)
        left = list(inference_state.object_ids)
        shown = [self._shown(inference_state, f)[::2] for f in prompted] if need_output and left else []
        return left, shown

    def reset_state(self, inference_state: VideoSession) -> None:
        """Forget all objects; the clip stays open."""
        inference_state.reset()

    def _shown(self, session: VideoSession, frame: int) -> FrameMaskLogits:
        """All objects on a frame; those without an answer are ABSENT_LOGIT all over."""
        known = session.masks(frame)
        logits = torch.full((len(session.object_ids), 1, *session.clip.size_hw), ABSENT_LOGIT)
        for object_id, mask_logits in zip(known.object_ids, known.logits, strict=True):
            logits[session.object_ids.index(object_id), 0] = mask_logits
        return frame, list(session.object_ids), logits.to(self.device)


def build_sam2_video_predictor(
    config_file: str,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: str = "auto",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
) -> SAM2VideoPredictor:
    """Build the video predictor by the official config name or a preset name.

    Args:
        config_file, ckpt_path, device, mode, hydra_overrides_extra: as `build_sam2`.
        apply_postprocessing: fill small holes.
        vos_optimized: accepted; it only changes the speed of the official version.
    """
    model = build_sam2(config_file, ckpt_path, device, mode, hydra_overrides_extra)
    return SAM2VideoPredictor(model, fill_hole_area=_BUILDERS_HOLE_AREA if apply_postprocessing else 0)


def build_sam2_video_predictor_hf(model_id: str, device: str = "auto") -> SAM2VideoPredictor:
    """Build the video predictor from a Hub repo."""
    return SAM2VideoPredictor.from_pretrained(model_id, device=device)
