"""The official image predictor and automatic mask generator.

Differences, all on purpose: masks are bool instead of float 0/1, small holes and specks are removed on every machine,
not only where an extension was compiled, and pictures that the official one would take for something else (float values
beyond 1) are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from sam2kit.compat.build import from_pretrained
from sam2kit.compat.internals import (
    OFFICIAL_LABELS,
    ForwardsToModel,
    SAM2Transforms,
    boxes_of,
    prompt_parts,
    refuse_keywords,
    with_official_calls,
)
from sam2kit.media.mask_files import run_counts
from sam2kit.media.pictures import read_picture
from sam2kit.model.sam2 import SAM2, ImageFeatures
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions, FoundMask
from sam2kit.predict.image import ImageEmbedding, ImagePredictor
from sam2kit.predict.options import ImageOptions
from sam2kit.predict.prompts import batched, batched_masks, checked_labels


class SAM2ImagePredictor(ForwardsToModel):
    """The official image predictor's interface: it holds the current picture (or pictures)."""

    def __init__(
        self,
        sam_model: SAM2,
        mask_threshold: float = 0.0,
        max_hole_area: float = 0.0,
        max_sprinkle_area: float = 0.0,
        **kwargs: Any,
    ) -> None:
        refuse_keywords(SAM2ImagePredictor, kwargs)
        self.model = with_official_calls(sam_model)
        self.mask_threshold = mask_threshold
        options = ImageOptions(mask_threshold, max_hole_area=max_hole_area, max_speck_area=max_sprinkle_area)
        self._predictor = ImagePredictor(self.model, options)
        self._transforms = SAM2Transforms(self.model.image_size, options)
        self.reset_predictor()

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2ImagePredictor:
        """Load the model of a Hub repo, or a preset or path, into a predictor; keywords of `build_sam2` and its own."""
        return from_pretrained(cls, model_id, kwargs)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def reset_predictor(self) -> None:
        """Forget the current picture."""
        self._embeddings: list[ImageEmbedding] = []
        self._sizes: list[tuple[int, int]] = []  # that scripts set before the features
        self._is_batch = False

    def set_image(self, image: np.ndarray | Image.Image) -> None:
        """Encode an RGB picture: uint8 [H, W, 3] or a PIL image, as `np.asarray` shows it (a phone's photo may lie)."""
        self.reset_predictor()
        self._embeddings = self._encoded([image])

    def set_image_batch(self, image_list: Sequence[np.ndarray | Image.Image]) -> None:
        """Encode several pictures, for `predict_batch`."""
        self.reset_predictor()
        self._embeddings, self._is_batch = self._encoded(image_list), True

    def _encoded(self, images: Sequence[np.ndarray | Image.Image]) -> list[ImageEmbedding]:
        made = self._predictor.encode_batch([read_picture(image, upright=False) for image in images])
        # ordinary tensors, so that scripts can train what comes after them
        return [ImageEmbedding(e.image.clone(), e.features.clone(), e.size_hw) for e in made]

    @property
    def _is_image_set(self) -> bool:
        return bool(self._embeddings)

    @_is_image_set.setter
    def _is_image_set(self, value: bool) -> None:
        self._embeddings = self._embeddings if value else []

    @property
    def _orig_hw(self) -> list[tuple[int, int]]:
        """Height and width of each picture, in pixels."""
        return [embedding.size_hw for embedding in self._embeddings] or self._sizes

    @_orig_hw.setter
    def _orig_hw(self, sizes: Sequence[Sequence[int]] | None) -> None:
        self._sizes = [(int(height), int(width)) for height, width in sizes or ()]
        known = [embedding.size_hw for embedding in self._embeddings]
        sizes_now = [*self._sizes, *known[len(self._sizes) :]]
        self._embeddings = [replace(e, size_hw=size) for e, size in zip(self._embeddings, sizes_now, strict=False)]

    @property
    def _bb_feat_sizes(self) -> list[tuple[int, int]]:
        """Sizes of the feature maps at strides 4, 8 and 16."""
        side = self.model.image_size
        return [(side // stride, side // stride) for stride in (4, 8, 16)]

    @_bb_feat_sizes.setter
    def _bb_feat_sizes(self, sizes: Sequence[Sequence[int]]) -> None:
        if [tuple(size) for size in sizes] != self._bb_feat_sizes:
            raise ValueError(f"the maps of this model have the sizes {self._bb_feat_sizes}, got {sizes}")

    @property
    def _features(self) -> dict[str, Any]:
        """What the official notebook prints, and fine-tuning scripts train on: maps of the current pictures."""
        if not self._embeddings:
            raise RuntimeError("there is no current picture: call set_image(...) first")
        maps = [(e.image, *(e.features.detail or ())) for e in self._embeddings]
        image, *detail = (torch.cat(of_all) for of_all in zip(*maps, strict=True))
        return {"image_embed": image, "high_res_feats": detail}

    @_features.setter
    def _features(self, maps: Mapping[str, Any] | None) -> None:
        """Maps that a script kept or made; `_orig_hw` says, before or after, how large the pictures are."""
        image, detail = ((), ()) if maps is None else (maps["image_embed"], maps["high_res_feats"])
        sizes = [*self._orig_hw, *[(self.model.image_size,) * 2] * len(image)]
        self._embeddings = []
        for i in range(len(image)):
            one, *finer = (level[i : i + 1] for level in (image, *reversed(detail)))
            self._embeddings.append(ImageEmbedding(one, ImageFeatures(one, *finer), sizes[i]))

    def get_image_embedding(self) -> Tensor:
        """[1, dim, h, w] embedding of the current picture."""
        return self._current().image

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Masks of the current picture.

        Args:
            point_coords: [N, 2] or [B, N, 2] pixels (x, y).
            point_labels: [N] or [B, N], 1 or 0.
            box: [4] or [B, 4] (x0, y0, x1, y1).
            mask_input: [1, h, w] or [B, 1, h, w] low-res logits returned earlier.
            multimask_output: three candidates instead of one.
            return_logits: logits instead of bool masks.
            normalize_coords: False when coordinates are already within 0..1.
        Returns:
            masks [C, H, W], predicted IoU [C] and low-res logits [C, h, w]; with a leading B for several prompts.
        """
        self._current()
        prompt = self._prep_prompts(point_coords, point_labels, box, mask_input, normalize_coords)
        return self._arrays(prompt, multimask_output, return_logits, -1)

    def predict_batch(
        self,
        point_coords_batch: Sequence[ArrayLike] | None = None,
        point_labels_batch: Sequence[ArrayLike] | None = None,
        box_batch: Sequence[ArrayLike] | None = None,
        mask_input_batch: Sequence[ArrayLike] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        normalize_coords: bool = True,
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """As `predict`, for each picture of `set_image_batch` with its own prompts."""
        if not self._is_batch:
            raise RuntimeError("predict_batch works on several pictures: call set_image_batch(...) first")

        answers = []
        for i in range(len(self._embeddings)):
            batches = point_coords_batch, point_labels_batch, box_batch, mask_input_batch
            points, labels, box, mask = (None if batch is None else batch[i] for batch in batches)
            prompt = self._prep_prompts(points, labels, box, mask, normalize_coords, i)
            answers.append(self._arrays(prompt, multimask_output, return_logits, i))
        masks, ious, low_res = ([answer[k] for answer in answers] for k in range(3))
        return masks, ious, low_res

    def _current(self) -> ImageEmbedding:
        if len(self._embeddings) != 1 or self._is_batch:
            raise RuntimeError("there is no current picture: call set_image(...) before predict(...)")
        return self._embeddings[0]

    def _prep_prompts(
        self,
        point_coords: ArrayLike | None,
        point_labels: ArrayLike | None,
        box: ArrayLike | None,
        mask_logits: ArrayLike | None,
        normalize_coords: bool,
        img_idx: int = -1,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """Prompts in the model's square; points may lie outside the picture.

        Returns:
            mask prompt [B, 1, h, w], points [B, N, 2], labels [B, N] int32, corners of boxes [B, 2, 2]; None for each
            that was not given.
        Raises:
            ValueError: if shapes, labels or numbers cannot be used.
        """
        size_hw = self._embeddings[img_idx].size_hw if self._embeddings else None

        def in_square(xy: Tensor) -> Tensor:
            return self._transforms.transform_coords(xy.to(self.device), normalize_coords, size_hw)

        corners = None if box is None else in_square(torch.from_numpy(boxes_of(box, "box")))
        points, labels = None, None
        if point_coords is not None:
            if point_labels is None:
                raise ValueError("point_labels must be given with point_coords")
            clicks = batched(point_coords, 3, "point_coords", "[N, 2] or [B, N, 2]", last=2, may_be_empty=True)
            marks = checked_labels(point_labels, clicks, OFFICIAL_LABELS)
            assert clicks is not None and marks is not None, "both were given"
            points, labels = in_square(clicks), marks.to(self.device, torch.int32)
        mask = batched_masks(mask_logits, "mask_input")
        return None if mask is None else mask.to(self.device), points, labels, corners

    @torch.no_grad()
    def _predict(
        self,
        point_coords: Tensor | None,
        point_labels: Tensor | None,
        boxes: Tensor | None = None,
        mask_input: Tensor | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        img_idx: int = -1,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `predict`, with tensors whose coordinates are pixels of the model's square.

        Returns:
            masks [B, C, H, W], predicted IoU [B, C] and low-res logits [B, C, h, w].
        """
        prompts = prompt_parts(mask_input, point_coords, point_labels, boxes)
        answer = self._predictor.predict_square(self._embeddings[img_idx], prompts, multimask_output)
        answer = replace(answer, options=replace(answer.options, threshold=self.mask_threshold))  # it may be set later
        return answer.logits if return_logits else answer.masks, answer.predicted_iou, answer.low_res

    def _arrays(
        self, prompt: tuple[Tensor | None, ...], multimask_output: bool, return_logits: bool, img_idx: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As NumPy arrays, without the axis of prompts if there is one."""
        mask, points, labels, corners = prompt
        answer = self._predict(points, labels, corners, mask, multimask_output, return_logits, img_idx)
        squeezed = (part[0] if len(part) == 1 else part for part in answer)
        return tuple(part.cpu().numpy() for part in squeezed)  # type: ignore[return-value]


class SAM2AutomaticMaskGenerator:
    """The official automatic mask generator's interface."""

    def __init__(
        self,
        model: SAM2,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.8,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        mask_threshold: float = 0.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[np.ndarray] | None = None,
        min_mask_region_area: float = 0,
        output_mode: str = "binary_mask",
        use_m2m: bool = False,
        multimask_output: bool = True,
        **kwargs: Any,
    ) -> None:
        refuse_keywords(SAM2AutomaticMaskGenerator, kwargs)
        if output_mode not in ("binary_mask", "uncompressed_rle", "coco_rle"):
            raise ValueError(f"output_mode must be binary_mask, uncompressed_rle or coco_rle, got {output_mode!r}")
        if (points_per_side is None) == (point_grids is None):
            raise ValueError("give either points_per_side or point_grids")
        self.predictor = SAM2ImagePredictor(
            model, max_hole_area=min_mask_region_area, max_sprinkle_area=min_mask_region_area
        )
        self.output_mode = output_mode
        self._automatic = AutomaticMasks(
            model,
            AutomaticOptions(
                points_per_side=points_per_side or 1,
                point_grids=None if point_grids is None else tuple(point_grids),
                points_per_batch=points_per_batch,
                min_predicted_iou=pred_iou_thresh,
                min_stability=stability_score_thresh,
                stability_offset=stability_score_offset,
                threshold=mask_threshold,
                max_box_overlap=box_nms_thresh,
                crop_layers=crop_n_layers,
                max_crop_overlap=crop_nms_thresh,
                crop_overlap=crop_overlap_ratio,
                points_shrink=crop_n_points_downscale_factor,
                min_region_area=min_mask_region_area,
                refine=use_m2m,
                multimask=multimask_output,
            ),
        )

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2AutomaticMaskGenerator:
        """Load the model of a Hub repo, or a preset or path, into a generator; keywords of `build_sam2` and its own."""
        return from_pretrained(cls, model_id, kwargs)

    def generate(self, image: np.ndarray | Image.Image) -> list[dict[str, Any]]:
        """All masks of an RGB picture, uint8 [H, W, 3] or a PIL image.

        Returns:
            A dict per mask: segmentation, area, bbox (XYWH), predicted_iou, point_coords, stability_score and
            crop_box (XYWH).
        """
        return [self._record(found) for found in self._automatic.generate(read_picture(image, upright=False))]

    def _record(self, found: FoundMask) -> dict[str, Any]:
        if self.output_mode == "binary_mask":
            segmentation: Any = found.mask
        else:
            segmentation = found.coco_rle
            if self.output_mode == "uncompressed_rle":
                segmentation = {**found.coco_rle, "counts": run_counts(found.coco_rle).tolist()}
        return {
            "segmentation": segmentation,
            "area": found.area,
            "bbox": _xywh(found.box_xyxy),
            "predicted_iou": found.predicted_iou,
            "point_coords": [list(found.point_xy)],
            "stability_score": found.stability,
            "crop_box": _xywh(found.crop_xyxy),
        }


def _xywh(box_xyxy: Sequence[float]) -> list[float]:
    x0, y0, x1, y1 = box_xyxy
    return [x0, y0, x1 - x0, y1 - y0]
