"""The official automatic mask generator."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from sam2kit.compat.build import from_pretrained
from sam2kit.compat.image import SAM2ImagePredictor
from sam2kit.media.pictures import read_picture
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions, FoundMask


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
        own = tuple(inspect.signature(cls.__init__).parameters)[2:]
        model, settings = from_pretrained(model_id, kwargs, own, f"{cls.__name__}.from_pretrained")
        return cls(model, **settings)

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
