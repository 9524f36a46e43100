"""Segment everything: a grid of clicks, and what survives of their masks.

    grid of clicks -> three masks each -> good and stable ones -> no duplicates

Optionally the picture is also cut into overlapping crops, which finds smaller things; masks that a crop's edge
cuts off are dropped.

Source: SAM, arXiv:2304.02643, appendix B "Automatic mask generation details"; refinement of SAM 2's release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sam2kit.media.pictures import PictureSource, read_picture
from sam2kit.media.runlengths import mask_to_runs, runs_to_mask
from sam2kit.model.mask_decoder import stability
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.predict.geometry import points_to_square
from sam2kit.predict.image import ImageEmbedding, ImageOptions, ImagePredictor, Masks
from sam2kit.predict.masks import mask_boxes, suppress_overlapping

if TYPE_CHECKING:
    import supervision

_NEAR_EDGE = 20  # pixels

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class AutomaticOptions:
    """What counts as a mask worth keeping. The defaults are the published ones."""

    points_per_side: int = 32
    points_per_batch: int = 64
    min_predicted_iou: float = 0.8
    min_stability: float = 0.95
    stability_offset: float = 1.0  # logits
    threshold: float = 0.0  # logit above which a pixel belongs to the mask
    max_box_overlap: float = 0.7  # IoU of boxes above which the worse mask goes
    crop_layers: int = 0  # layer n adds 2^n x 2^n crops
    max_crop_overlap: float = 0.7  # the same between crops, where the smaller crop wins
    crop_overlap: float = 512 / 1500  # of the picture's shorter side, on layer 1
    points_shrink: int = 1  # points per side are divided by this on each further layer
    min_region_area: float = 0.0  # smaller holes and specks are cleaned away, in pixels of the low-res logits
    refine: bool = False  # ask again with each mask as prompt
    multimask: bool = True

    def __post_init__(self) -> None:
        if self.points_per_side < 1 or self.points_per_batch < 1:
            raise ValueError(
                f"points_per_side and points_per_batch must be at least 1, got {self.points_per_side} and "
                f"{self.points_per_batch}"
            )
        if not 0 <= self.crop_layers <= 3:
            raise ValueError(f"crop_layers must be 0 to 3, got {self.crop_layers}")


@dataclass(frozen=True)
class FoundMask:
    """One mask of "segment everything"."""

    runs: dict  # uncompressed COCO run lengths of the whole picture
    box_xyxy: tuple[float, float, float, float]  # inclusive pixel indices
    predicted_iou: float
    stability: float
    point_xy: tuple[float, float]  # the click that found it
    crop_xyxy: tuple[int, int, int, int]  # the crop it was found in

    @property
    def mask(self) -> np.ndarray:
        """bool [H, W]."""
        return runs_to_mask(self.runs)

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return sum(self.runs["counts"][1::2])


@dataclass
class _Batch:
    """Masks on their way through the filters, in coordinates of their crop."""

    masks: Tensor  # [K, H, W] bool
    boxes: Tensor  # [K, 4]
    predicted_iou: Tensor  # [K]
    stability: Tensor  # [K]
    points: Tensor  # [K, 2]

    def keep(self, index: Tensor) -> _Batch:
        return _Batch(*(t[index] for t in vars(self).values()))


class AutomaticMasks:
    """Finds masks for everything in a picture.

    Args:
        model: a SAM2.
        options: grid, thresholds, crops.
    """

    def __init__(self, model: SAM2, options: AutomaticOptions | None = None) -> None:
        self.options = options or AutomaticOptions()
        area, threshold = self.options.min_region_area, self.options.threshold
        self.predictor = ImagePredictor(
            model, ImageOptions(threshold=threshold, max_hole_area=area, max_speck_area=area)
        )

    def generate(self, picture: PictureSource, *, progress: Progress | None = None) -> list[FoundMask]:
        """Find all masks, best predicted IoU first.

        Args:
            picture: whatever `read_picture` takes.
            progress: called with (batches done, batches in all); may raise to stop.
        """
        image = read_picture(picture)
        size_hw = image.shape[:2]
        crops = list(crop_boxes(size_hw, self.options))
        grids = [unit_grid(self._points_per_side(layer)) for _, layer in crops]
        total = sum(ceil(len(g) / self.options.points_per_batch) for g in grids)
        done = 0
        found: list[FoundMask] = []
        for (crop, _), grid in zip(crops, grids, strict=True):
            for masks in self._search_crop(image, crop, grid):
                if isinstance(masks, list):
                    found += masks
                else:
                    done += 1
                    if progress is not None:
                        progress(done, total)
        if len(crops) > 1:
            found = self._between_crops(found)
        return found

    def _points_per_side(self, layer: int) -> int:
        return int(self.options.points_per_side / self.options.points_shrink**layer)

    def _search_crop(
        self, image: np.ndarray, crop: tuple[int, int, int, int], grid: Tensor
    ) -> Iterator[list[FoundMask] | None]:
        """Yields None after every batch of clicks and, at last, the masks of this crop."""
        x0, y0, x1, y1 = crop
        embedding = self.predictor.encode(np.ascontiguousarray(image[y0:y1, x0:x1]))
        points = grid * torch.tensor([x1 - x0, y1 - y0])
        batches = []
        for clicks in points.split(self.options.points_per_batch):
            batches.append(self._filtered(embedding, clicks, crop, image.shape[:2]))
            yield None
        everything = _Batch(*(torch.cat(parts) for parts in zip(*(vars(b).values() for b in batches), strict=True)))
        kept = suppress_overlapping(everything.boxes, everything.predicted_iou, self.options.max_box_overlap)
        yield [self._found(everything, i, crop, image.shape[:2]) for i in kept.tolist()]

    def _filtered(
        self, embedding: ImageEmbedding, clicks: Tensor, crop: tuple[int, int, int, int], size_hw: tuple[int, int]
    ) -> _Batch:
        """Answer a batch of clicks and drop what is poor, unstable or cut off by the crop's edge."""
        options = self.options
        answer = self._ask(embedding, clicks, multimask=options.multimask)
        candidates = answer.logits.shape[1]
        logits, predicted = answer.logits.flatten(0, 1), answer.predicted_iou.flatten()
        points = clicks.repeat_interleave(candidates, dim=0).to(predicted.device)
        if options.refine:
            low_res = answer.low_res.flatten(0, 1)[:, None]
            answer = self._ask(embedding, points, multimask=False, low_res=low_res)
            logits, predicted = answer.logits[:, 0], answer.predicted_iou[:, 0]
        keep = torch.ones(len(predicted), dtype=torch.bool, device=predicted.device)
        if options.min_predicted_iou > 0:
            keep &= predicted > options.min_predicted_iou
        logits, predicted, points = logits[keep], predicted[keep], points[keep]
        steady = stability(logits, offset=options.stability_offset, threshold=options.threshold)
        # a mask that is empty at both thresholds is no mask, however steady
        seen = (logits > options.threshold - options.stability_offset).flatten(1).any(dim=1)
        keep = ((steady >= options.min_stability) & seen) if options.min_stability > 0 else torch.ones_like(seen)
        masks = logits[keep] > options.threshold
        boxes = mask_boxes(masks)
        batch = _Batch(masks, boxes, predicted[keep], steady[keep], points[keep])
        return batch.keep(~_cut_off(boxes, crop, size_hw))

    def _ask(
        self, embedding: ImageEmbedding, clicks: Tensor, *, multimask: bool, low_res: Tensor | None = None
    ) -> Masks:
        model = self.predictor.model
        square = points_to_square(clicks.to(model.device), embedding.size_hw, model.config.side)[:, None]
        labels = torch.ones(square.shape[:2], dtype=torch.int64, device=model.device)
        return self.predictor.predict_square(embedding, PromptTensors(square, labels, low_res), multimask)

    @staticmethod
    def _found(batch: _Batch, i: int, crop: tuple[int, int, int, int], size_hw: tuple[int, int]) -> FoundMask:
        x0, y0, x1, y1 = crop
        whole = np.zeros(size_hw, bool)
        whole[y0:y1, x0:x1] = batch.masks[i].cpu().numpy()
        box, point = batch.boxes[i].tolist(), batch.points[i].tolist()
        return FoundMask(
            runs=mask_to_runs(whole),
            box_xyxy=(box[0] + x0, box[1] + y0, box[2] + x0, box[3] + y0),
            predicted_iou=batch.predicted_iou[i].item(),
            stability=batch.stability[i].item(),
            point_xy=(point[0] + x0, point[1] + y0),
            crop_xyxy=crop,
        )

    def _between_crops(self, found: list[FoundMask]) -> list[FoundMask]:
        """The same thing found in several crops: the smallest crop saw it best."""
        if not found:
            return found
        boxes = torch.tensor([f.box_xyxy for f in found])
        scores = torch.tensor([1 / _area(f.crop_xyxy) for f in found])
        kept = suppress_overlapping(boxes, scores, self.options.max_crop_overlap)
        return [found[i] for i in kept.tolist()]


def unit_grid(points_per_side: int) -> Tensor:
    """[n * n, 2] float64 centres of a grid over the unit square, x fastest."""
    centre = (torch.arange(points_per_side, dtype=torch.float64) + 0.5) / points_per_side
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def crop_boxes(size_hw: tuple[int, int], options: AutomaticOptions) -> Iterator[tuple[tuple[int, int, int, int], int]]:
    """(x0, y0, x1, y1) and layer of every crop; the first is the whole picture."""
    height, width = size_hw
    yield (0, 0, width, height), 0
    for layer in range(1, options.crop_layers + 1):
        n = 2**layer
        overlap = int(options.crop_overlap * min(size_hw) * 2 / n)
        long_x, long_y = (ceil((overlap * (n - 1) + length) / n) for length in (width, height))
        for column in range(n):
            for row in range(n):
                x, y = column * (long_x - overlap), row * (long_y - overlap)
                yield (x, y, min(x + long_x, width), min(y + long_y, height)), layer


def _cut_off(boxes: Tensor, crop: tuple[int, int, int, int], size_hw: tuple[int, int]) -> Tensor:
    """[K] bool: boxes that end at an edge of the crop which is no edge of the picture."""
    edges = torch.tensor(crop, device=boxes.device)
    borders = torch.tensor([0, 0, size_hw[1], size_hw[0]], device=boxes.device)
    placed = boxes + edges[[0, 1, 0, 1]]
    at_crop = (placed - edges).abs() <= _NEAR_EDGE
    at_picture = (placed - borders).abs() <= _NEAR_EDGE
    return (at_crop & ~at_picture).any(dim=1)


def _area(box_xyxy: Sequence[int]) -> int:
    return (box_xyxy[2] - box_xyxy[0]) * (box_xyxy[3] - box_xyxy[1])


def to_detections(found: Sequence[FoundMask]) -> supervision.Detections:
    """Found masks as `supervision.Detections`, with predicted IoU as confidence."""
    import supervision

    if not found:
        return supervision.Detections.empty()
    boxes = np.array([f.box_xyxy for f in found], np.float32)
    boxes[:, 2:] += 1  # supervision's boxes end after the last pixel
    return supervision.Detections(
        xyxy=boxes,
        mask=np.stack([f.mask for f in found]),
        confidence=np.array([f.predicted_iou for f in found], np.float32),
    )
