"""The official image predictor and automatic mask generator.

Two differences, both on purpose: masks are bool instead of float 0/1, and small holes and specks are removed on
every machine, not only where an extension was compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from sam2kit.compat.arrays import boxes_of
from sam2kit.compat.build import load_official
from sam2kit.model.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, NEGATIVE, NOT_A_POINT, POSITIVE
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions, FoundMask
from sam2kit.predict.geometry import points_to_square
from sam2kit.predict.image import ImageEmbedding, ImageOptions, ImagePredictor
from sam2kit.predict.prompts import batched, batched_masks, check_count, check_same_number, checked_labels

_LABELS = {
    POSITIVE: "this",
    NEGATIVE: "not this",
    BOX_TOP_LEFT: "top left of a box",
    BOX_BOTTOM_RIGHT: "bottom right",
    NOT_A_POINT: "no point",
}


class SAM2ImagePredictor:
    """The official image predictor's interface: it holds the current picture (or pictures)."""

    def __init__(
        self, sam_model: SAM2, mask_threshold: float = 0.0, max_hole_area: float = 0.0, max_sprinkle_area: float = 0.0
    ) -> None:  # fmt: skip
        self.model = sam_model
        self._predictor = ImagePredictor(sam_model, ImageOptions(mask_threshold, max_hole_area, max_sprinkle_area))
        self.reset_predictor()

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs: Any) -> SAM2ImagePredictor:
        """Load the model of a Hub repo, or a preset or path, into a predictor."""
        return cls(load_official(model_id, kwargs.pop("device", "auto")), **kwargs)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def reset_predictor(self) -> None:
        """Forget the current picture."""
        self._embeddings: list[ImageEmbedding] = []
        self._is_batch = False

    def set_image(self, image: np.ndarray | Image.Image) -> None:
        """Encode an RGB picture: uint8 [H, W, 3] or a PIL image."""
        self.reset_predictor()
        self._embeddings = [self._predictor.encode(image)]

    def set_image_batch(self, image_list: Sequence[np.ndarray | Image.Image]) -> None:
        """Encode several pictures, for `predict_batch`."""
        self.reset_predictor()
        self._embeddings, self._is_batch = self._predictor.encode_batch(image_list), True

    @property
    def _features(self) -> dict[str, Any]:
        """What the official notebook prints of the current picture."""
        embedding = self._current()
        details = [embedding.features.stride4, embedding.features.stride8]
        return {"image_embed": embedding.image, "high_res_feats": details}

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
        return self._predict(
            self._current(), point_coords, point_labels, box, mask_input, multimask_output, return_logits,
            normalize_coords,
        )  # fmt: skip

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

        def of(batch: Sequence[ArrayLike] | None, i: int) -> ArrayLike | None:
            return None if batch is None else batch[i]

        answers = [
            self._predict(
                embedding, of(point_coords_batch, i), of(point_labels_batch, i), of(box_batch, i),
                of(mask_input_batch, i), multimask_output, return_logits, normalize_coords,
            )
            for i, embedding in enumerate(self._embeddings)
        ]  # fmt: skip
        masks, ious, low_res = ([answer[k] for answer in answers] for k in range(3))
        return masks, ious, low_res

    def _current(self) -> ImageEmbedding:
        if len(self._embeddings) != 1 or self._is_batch:
            raise RuntimeError("there is no current picture: call set_image(...) before predict(...)")
        return self._embeddings[0]

    def _predict(
        self,
        embedding: ImageEmbedding,
        point_coords: ArrayLike | None,
        point_labels: ArrayLike | None,
        box: ArrayLike | None,
        mask_input: ArrayLike | None,
        multimask_output: bool,
        return_logits: bool,
        normalize_coords: bool,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        prompts = self._tensors(embedding, point_coords, point_labels, box, mask_input, normalize_coords)
        answer = self._predictor.predict_square(embedding, prompts, multimask_output)
        masks = answer.logits if return_logits else answer.masks
        outputs = (masks, answer.predicted_iou, answer.low_res)
        squeezed = (o[0] if len(answer) == 1 else o for o in outputs)
        return tuple(o.cpu().numpy() for o in squeezed)  # type: ignore[return-value]

    def _tensors(
        self,
        embedding: ImageEmbedding,
        point_coords: ArrayLike | None,
        point_labels: ArrayLike | None,
        box: ArrayLike | None,
        mask_input: ArrayLike | None,
        normalize_coords: bool,
    ) -> PromptTensors:
        """Prompts in the model's square; points may lie outside the picture, as in the official predictor.

        Raises:
            ValueError: if shapes, labels or numbers cannot be used.
        """

        def as_square(xy: Tensor) -> Tensor:
            pixels = xy.to(self.device)
            side = self.model.config.side
            return points_to_square(pixels, embedding.size_hw, side) if normalize_coords else pixels * side

        points, labels = [], []
        if box is not None:
            corners = as_square(torch.from_numpy(boxes_of(box, "box")))
            points.append(corners)
            labels.append(torch.tensor([[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]], device=self.device).expand(len(corners), -1))
        if point_coords is not None:
            if point_labels is None:
                raise ValueError("point_labels must be given with point_coords")
            clicks = batched(point_coords, 3, "point_coords", "[N, 2] or [B, N, 2]", last=2, may_be_empty=True)
            marks = checked_labels(point_labels, clicks, _LABELS)
            assert clicks is not None and marks is not None, "both were given"
            check_count(clicks.shape[1])
            points.append(as_square(clicks))
            labels.append(marks.to(self.device))
        check_same_number(*points)
        mask = batched_masks(mask_input, "mask_input")
        if mask is not None:
            mask = mask.to(self.device)
            if points and len(mask) == 1:  # one for all
                mask = mask.expand(len(points[0]), -1, -1, -1)
            check_same_number(*points, mask)
        if not points:
            return PromptTensors(mask_logits=mask)
        return PromptTensors(torch.cat(points, dim=1), torch.cat(labels, dim=1), mask)


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
    ) -> None:
        if output_mode not in ("binary_mask", "uncompressed_rle", "coco_rle"):
            raise ValueError(f"output_mode must be binary_mask, uncompressed_rle or coco_rle, got {output_mode!r}")
        if (points_per_side is None) == (point_grids is None):
            raise ValueError("give either points_per_side or point_grids")
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
        """Load the model of a Hub repo, or a preset or path, into a generator."""
        return cls(load_official(model_id, kwargs.pop("device", "auto")), **kwargs)

    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """All masks of an RGB picture, uint8 [H, W, 3].

        Returns:
            A dict per mask: segmentation, area, bbox (XYWH), predicted_iou, point_coords, stability_score and
            crop_box (XYWH).
        """
        return [self._record(found) for found in self._automatic.generate(image)]

    def _record(self, found: FoundMask) -> dict[str, Any]:
        if self.output_mode == "binary_mask":
            segmentation: Any = found.mask
        else:
            segmentation = found.runs if self.output_mode == "uncompressed_rle" else found.coco_rle
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
