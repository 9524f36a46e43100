"""The official video predictor.

Differences, all on purpose: corrections of tracked frames are kept (`add_all_frames_to_correct_as_cond=False` loses
them, as the newest official version does); frames are read as they are needed and results are kept on the CPU, so the
offload and asynchronous-loading switches change nothing; any video file, GIF, folder of pictures with any names, or
list of arrays can be opened. Logits are exact; stored, they take 260 kB for each object and frame at side 1024, where
the official version keeps 12 MB of each frame (`exact_logits=False` packs them, and tracks from what is packed).
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

from sam2kit.compat.build import BUILDER_KEYWORDS, load_official, preset_of_config, read_overrides
from sam2kit.compat.inference_state import InferenceState
from sam2kit.compat.internals import (
    OFFICIAL_LABELS,
    ForwardsToModel,
    boxes_of,
    refuse_keywords,
    settings_of,
    with_official_calls,
)
from sam2kit.media.clips import ClipSource, open_clip
from sam2kit.model.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, NOT_A_POINT
from sam2kit.model.sam2 import ABSENT_LOGIT, SAM2
from sam2kit.predict.frame_masks import FrameMasks
from sam2kit.predict.objects import ObjectId
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.prompts import FramePrompt, batched, checked_labels, finite_numbers
from sam2kit.predict.video import Direction, VideoPredictor

_BUILDERS_HOLE_AREA = 8  # what the official builder switches on

_WITHOUT_POSTPROCESSING = {"fill_hole_area": 0, "binarize_mask_from_pts_for_mem_enc": False}

FrameMaskLogits = tuple[int, list[ObjectId], Tensor]  # frame, object ids, logits [objects, 1, H, W]


class SAM2VideoPredictor(ForwardsToModel):
    """The official video predictor's interface; the state it hands out is an InferenceState.

    Like officially, all settings are attributes that may be changed; they hold from the next call.

    Args:
        fill_hole_area: holes up to this many low-res pixels are filled.
        non_overlap_masks: a pixel belongs to one object only.
        clear_non_cond_mem_around_input: a correction makes the object forget what was tracked around it.
        add_all_frames_to_correct_as_cond: corrected frames become conditioning frames.
        binarize_mask_from_pts_for_mem_enc: prompted frames are remembered by their thresholded mask.
        exact_logits: store logits in full.
    """

    def __init__(
        self,
        model: SAM2,
        fill_hole_area: int = _BUILDERS_HOLE_AREA,
        non_overlap_masks: bool = False,
        clear_non_cond_mem_around_input: bool = False,
        add_all_frames_to_correct_as_cond: bool = True,
        binarize_mask_from_pts_for_mem_enc: bool = True,
        exact_logits: bool = True,
        **kwargs: Any,
    ) -> None:
        refuse_keywords(SAM2VideoPredictor, kwargs)
        self.model = with_official_calls(model)
        self.fill_hole_area, self.non_overlap_masks = fill_hole_area, non_overlap_masks
        self.clear_non_cond_mem_around_input = clear_non_cond_mem_around_input
        self.add_all_frames_to_correct_as_cond = add_all_frames_to_correct_as_cond
        self.binarize_mask_from_pts_for_mem_enc, self.exact_logits = binarize_mask_from_pts_for_mem_enc, exact_logits
        self._predictor = VideoPredictor(self.model, self._options())

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2VideoPredictor:
        """Load the model of a Hub repo, or a preset or path, into a predictor; all keywords of its builders."""
        return build_sam2_video_predictor_hf(model_id, **kwargs)

    def _options(self) -> VideoOptions:
        return VideoOptions.official(
            corrected_frames_condition=self.add_all_frames_to_correct_as_cond,
            max_hole_area=self.fill_hole_area,
            exclusive=self.non_overlap_masks,
            binary_prompted_memory=self.binarize_mask_from_pts_for_mem_enc,
            exact_logits=self.exact_logits,
        )

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
    ) -> InferenceState:
        """Open a video; pictures of a folder or list stay as they are stored, whatever their EXIF says."""
        return InferenceState(
            open_clip(video_path, upright=False),
            self._options(),
            config=self.model.config,
            side=self.model.image_size,
            device=self.device,
            offload_video_to_cpu=offload_video_to_cpu,
            offload_state_to_cpu=offload_state_to_cpu,
        )

    def add_new_points_or_box(
        self,
        inference_state: InferenceState,
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
            points: [N, 2] pixels (x, y) of the clip, or a little outside; within 0..1 if normalize_coords is False.
            labels: [N] 1 or 0, or -1 where a row is filled up; once each 2 and 3 for the corners of a box.
            clear_old_points: forget the frame's earlier clicks of this object.
            box: [4] (x0, y0, x1, y1), in any order of the corners.
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
        prompt = _with_corners_as_box(
            np.zeros((0, 2), np.float32) if clicks is None else clicks.reshape(-1, 2).numpy() * scale,
            _checked(labels, clicks),
            None if box is None else (boxes_of(box, "box") * scale).reshape(-1),
        )
        return self._prompted(inference_state, frame_idx, obj_id, prompt, replace=clear_old_points)

    def add_new_points(self, *args: Any, **kwargs: Any) -> FrameMaskLogits:
        """The older name of `add_new_points_or_box`."""
        return self.add_new_points_or_box(*args, **kwargs)

    def add_new_mask(
        self, inference_state: InferenceState, frame_idx: int, obj_id: Hashable, mask: ArrayLike | Tensor
    ) -> FrameMaskLogits:
        """Prompt a frame with a mask [H, W] of any size."""
        values = finite_numbers(mask, "mask")
        if values.ndim != 2 or not values.size:
            raise ValueError(f"the mask must be [H, W], got shape {list(values.shape)}")
        # as the official version takes them: whatever is not 0, but shares of pixels in a tensor
        given = torch.from_numpy(values if isinstance(mask, Tensor) else (values != 0).astype(np.float32))
        prompt = _MaskOfAnySize(given, inference_state.clip.size_hw)
        return self._prompted(inference_state, frame_idx, obj_id, prompt, replace=True)

    def _prompted(
        self, state: InferenceState, frame: int, object_id: Hashable, prompt: FramePrompt, *, replace: bool
    ) -> FrameMaskLogits:
        state.options = self._options()
        if object_id in state.objects:
            state.object(object_id).settle()
        found = self._predictor.add_prompt(state, frame, object_id, prompt, replace=replace)
        if self.clear_non_cond_mem_around_input:
            item, slots = state.object(object_id), self.model.num_maskmem
            for near in range(found.frame_index - slots, found.frame_index + slots + 1):
                item.tracked.pop(near, None)
                if near not in item.prompted:
                    item.memories.pop(near, None)
        return self._shown(state, found)

    def propagate_in_video_preflight(self, inference_state: InferenceState) -> None:
        """Check that there is something to track; memories are made when they are needed."""
        self._predictor.plan(inference_state, 0, "forward", 0)
        promptless = [i for i, item in inference_state.objects.items() if not item.prompted]
        if promptless:
            raise ValueError(f"object {promptless[0]!r} has no prompt left; prompt it again or remove it")

    def propagate_in_video(
        self,
        inference_state: InferenceState,
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
        inference_state.options = self._options()
        self.propagate_in_video_preflight(inference_state)
        if start_frame_idx is None:
            start_frame_idx = min(min(t.prompted) for t in inference_state.objects.values())
        if reverse and start_frame_idx == 0:
            return
        for item in inference_state.objects.values():
            item.settled = None
        direction: Direction = "backward" if reverse else "forward"
        for frame in self._predictor.propagate(inference_state, start_frame_idx, direction, max_frame_num_to_track):
            for item in inference_state.objects.values():
                if frame.frame_index in item.prompted:  # passed by, it counts as tracked
                    item.directions[frame.frame_index] = reverse
            yield self._shown(inference_state, frame)

    def clear_all_prompts_in_frame(
        self, inference_state: InferenceState, frame_idx: int, obj_id: Hashable, need_output: bool = True
    ) -> FrameMaskLogits | None:
        """Take back the prompts of an object on a frame."""
        inference_state.clear(frame_idx, obj_id)
        return self._shown(inference_state, inference_state.masks(frame_idx)) if need_output else None

    def remove_object(
        self, inference_state: InferenceState, obj_id: Hashable, strict: bool = False, need_output: bool = True
    ) -> tuple[list[ObjectId], list[tuple[int, Tensor]]]:
        """Forget an object.

        Returns:
            the ids that are left, and (frame, mask logits) of the frames on which it was prompted.
        """
        if obj_id not in inference_state.objects and not strict:
            return list(inference_state.object_ids), []
        prompted = sorted(inference_state.object(obj_id).prompts)
        inference_state.remove_object(obj_id)
        left = list(inference_state.object_ids)
        if not need_output or not left:
            return left, []
        return left, [self._shown(inference_state, inference_state.masks(f))[::2] for f in prompted]

    def reset_state(self, inference_state: InferenceState) -> None:
        """Forget all objects; the clip stays open."""
        inference_state.reset()

    def _shown(self, state: InferenceState, known: FrameMasks) -> FrameMaskLogits:
        """All objects on a frame; those without an answer are ABSENT_LOGIT all over."""
        logits = torch.full((len(state.object_ids), 1, *state.clip.size_hw), ABSENT_LOGIT, device=self.device)
        for object_id, mask_logits in zip(known.object_ids, known.logits_at(known.size_hw, self.device), strict=True):
            logits[state.object_ids.index(object_id), 0] = mask_logits
        return known.frame_index, list(state.object_ids), logits


class _Clicks(FramePrompt):
    """Clicks and a box; also with labels of points that are none."""

    known_labels = (*FramePrompt.known_labels, NOT_A_POINT)


class _MaskOfAnySize(FramePrompt):
    """A mask prompt that keeps what was given, float32 [H, W], as officially it is resized once, and then cut."""

    given: Tensor

    def __init__(self, given: Tensor, size_hw: tuple[int, int]) -> None:
        super().__init__(mask=(_resized(given, size_hw) >= 0.5).numpy())
        object.__setattr__(self, "given", given)

    def mask_in_square(self, side: int) -> Tensor:
        """[side, side]; given at that size, it is not cut."""
        return self.given if self.given.shape == (side, side) else (_resized(self.given, (side, side)) >= 0.5).float()


def _resized(mask: Tensor, size_hw: tuple[int, int]) -> Tensor:
    return F.interpolate(mask[None, None], size_hw, mode="bilinear", antialias=True, align_corners=False)[0, 0]


_SETTINGS = settings_of(SAM2VideoPredictor)


def _checked(labels: ArrayLike | None, clicks: Tensor | None) -> np.ndarray:
    """int64 [N] labels of clicks [B, N, 2]; a ValueError that says which ones there are."""
    if labels is None or clicks is None:
        return np.zeros(0, np.int64)
    marks = checked_labels(finite_numbers(labels, "labels").reshape(-1), clicks.reshape(1, -1, 2), OFFICIAL_LABELS)
    assert marks is not None, "there are clicks"
    return marks[0].numpy()


def _with_corners_as_box(points_xy: np.ndarray, labels: np.ndarray, box_xyxy: np.ndarray | None) -> FramePrompt:
    """A prompt whose labels 2 and 3 say that two of its points are the corners of a box."""
    corners = [np.flatnonzero(labels == corner) for corner in (BOX_TOP_LEFT, BOX_BOTTOM_RIGHT)]
    if not corners[0].size and not corners[1].size:
        return _Clicks(points_xy, labels, box_xyxy)
    if box_xyxy is not None or [len(found) for found in corners] != [1, 1] or len(labels) != len(points_xy):
        raise ValueError(
            "the labels 2 and 3 are the two corners of one box: give each once, and no other box; got labels "
            f"{labels.tolist()}"
        )
    clicks = labels < BOX_TOP_LEFT
    box = np.concatenate([points_xy[found[0]] for found in corners])
    return _Clicks(points_xy[clicks], labels[clicks], box)


def build_sam2_video_predictor(
    config_file: str,
    ckpt_path: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = "auto",
    mode: str = "eval",
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    **kwargs: Any,
) -> SAM2VideoPredictor:
    """Build the video predictor by the official config name or a preset name.

    Args:
        config_file, ckpt_path, device, mode: as `build_sam2`.
        hydra_overrides_extra: such as "++model.non_overlap_masks=true"; whatever they say stands before
            apply_postprocessing.
        apply_postprocessing: fill small holes, let a single mask with wavering edges give way to the best of the other
            three, and remember prompted frames by their thresholded mask.
        vos_optimized: accepted; it only changes the speed of the official version.
        kwargs: settings of `SAM2VideoPredictor`.
    Raises:
        ValueError: if a config, override or keyword is unknown; says which are taken.
    """
    name = preset_of_config(config_file)
    return build_sam2_video_predictor_hf(
        name if ckpt_path is None else ckpt_path,
        hydra_overrides_extra,
        apply_postprocessing,
        device=device,
        mode=mode,
        **kwargs,
    )


def build_sam2_video_predictor_hf(
    model_id: str | os.PathLike[str],
    hydra_overrides_extra: Sequence[str] = (),
    apply_postprocessing: bool = True,
    vos_optimized: bool = False,
    **kwargs: Any,
) -> SAM2VideoPredictor:
    """Build the video predictor from a Hub repo; keywords as `build_sam2_video_predictor`."""
    taken = (*BUILDER_KEYWORDS, "vos_optimized", *_SETTINGS)
    unknown = next((name for name in kwargs if name not in taken), None)
    if unknown is not None:
        raise ValueError(f"the video predictor does not take {unknown!r}; it takes {', '.join(taken)}")
    builder = {name: kwargs.pop(name) for name in BUILDER_KEYWORDS if name in kwargs}
    overrides = read_overrides(hydra_overrides_extra)
    model = load_official(model_id, overrides=overrides, apply_postprocessing=apply_postprocessing, **builder)
    plain = {} if apply_postprocessing else _WITHOUT_POSTPROCESSING
    wishes = {name: value for name, value in overrides.items() if name in _SETTINGS}
    return SAM2VideoPredictor(model, **{**plain, **wishes, **kwargs})
