"""Segment everything: a grid of clicks, and what survives of their masks.

    grid of clicks -> three masks each -> good and stable ones -> no duplicates

Optionally the picture is also cut into overlapping crops, which finds smaller things; masks that a crop's edge
cuts off are dropped.

Source: SAM, arXiv:2304.02643, appendix B "Automatic mask generation details"; refinement of SAM 2's release.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from itertools import count
from math import ceil, inf
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sam2kit.config import SAM2Config, check_number, check_whole
from sam2kit.hardware import is_out_of_memory
from sam2kit.media.mask_files import RunLengths, mask_to_runs, run_counts, runs_to_mask
from sam2kit.media.pictures import PictureSource, read_picture
from sam2kit.model.mask_decoder import stability
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.predict.geometry import mask_boxes, points_to_square, suppress_overlapping
from sam2kit.predict.image import ImageEmbedding, ImagePredictor, Masks, detections_of
from sam2kit.predict.options import ImageOptions

if TYPE_CHECKING:
    import supervision

_NEAR_EDGE = 20  # pixels
_MASKS_AT_A_TIME = 16

Progress = Callable[[int, int], None]
Found = TypeVar("Found")
Steps = Generator[tuple[int, int], None, Found]  # (batches done, batches in all), and what is found at the end


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
    point_grids: tuple[np.ndarray, ...] | None = None  # [N, 2] points in 0..1 per layer, instead of even grids

    def __post_init__(self) -> None:
        most = {"points_per_side": 256, "points_per_batch": 2**16, "points_shrink": 256, "crop_layers": 3}
        for name, limit in most.items():
            value = getattr(self, name)
            value = int(value) if isinstance(value, np.integer) else value  # NumPy's will do, too
            check_whole(name, value, 0 if name == "crop_layers" else 1, limit)
        for name in ("min_predicted_iou", "min_stability", "threshold", "max_box_overlap", "max_crop_overlap"):
            check_number(name, getattr(self, name))
        for name in ("stability_offset", "crop_overlap", "min_region_area"):
            check_number(name, getattr(self, name), least=0)
        if self.point_grids is not None and len(self.point_grids) <= self.crop_layers:
            raise ValueError(f"point_grids must hold one grid per layer, {self.crop_layers + 1} in all")


def everything_options(config: SAM2Config) -> AutomaticOptions:
    """What suits a model, with half of the published grid, for a wait that people accept."""
    options = AutomaticOptions(points_per_side=16)
    if not config.decoder.ragged_masks:
        return options
    # nano predicts lower IoUs, the boundaries of its masks are less stable, and it leaves specks
    return replace(options, min_predicted_iou=0.5, min_stability=0.6, min_region_area=8)


@dataclass(frozen=True)
class FoundMask:
    """One mask of "segment everything"."""

    runs: RunLengths  # COCO's compressed ones, of the whole picture
    box_xyxy: tuple[float, float, float, float]  # inclusive pixel indices
    predicted_iou: float
    stability: float
    point_xy: tuple[float, float]  # the click that found it
    crop_xyxy: tuple[int, int, int, int]  # the crop it was found in
    name: str = ""  # its class, where one is known
    score: float = 1.0  # how sure that is, 0..1

    @property
    def mask(self) -> np.ndarray:
        """bool [H, W]."""
        return runs_to_mask(self.runs)

    @property
    def coco_rle(self) -> dict[str, Any]:
        """Compressed COCO run lengths, as pycocotools writes them."""
        return self.runs

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return int(run_counts(self.runs)[1::2].sum())


Box = tuple[int, int, int, int]  # (x0, y0, x1, y1), the last two exclusive


class AutomaticMasks:
    """Finds masks for everything in a picture.

    Args:
        model, lock: as for `ImagePredictor`.
        options: grid, thresholds, crops.
        predictor: asks the model in this one's way, with options of its own; then `lock` is not needed.
    """

    def __init__(
        self,
        model: SAM2,
        options: AutomaticOptions | None = None,
        *,
        lock: AbstractContextManager[object] | None = None,
        predictor: ImagePredictor | None = None,
    ) -> None:
        self.options = options or AutomaticOptions()
        area = self.options.min_region_area
        given = predictor or ImagePredictor(model, lock=lock)
        self.predictor = given.with_options(
            ImageOptions(self.options.threshold, max_hole_area=area, max_speck_area=area)
        )

    def generate(self, picture: PictureSource, *, progress: Progress | None = None) -> list[FoundMask]:
        """Find all masks: best predicted IoU first, and with crops the masks of the smallest crops first.

        Args:
            picture: whatever `read_picture` takes.
            progress: called with (batches done, batches in all); may raise to stop.
        """
        return run_steps(self.steps(picture), progress)

    def steps(self, picture: PictureSource, embedding: ImageEmbedding | None = None) -> Steps[list[FoundMask]]:
        """As `generate`, step by step; `embedding` is of the whole picture, where it is at hand."""
        image = read_picture(picture)
        crops = [(crop, self._grid(layer)) for crop, layer in crop_boxes(image.shape[:2], self.options)]
        total = sum(ceil(len(grid) / self.options.points_per_batch) for _, grid in crops)
        done = count(1)
        found: list[FoundMask] = []
        for crop, grid in crops:
            of_crop: list[FoundMask] = []
            x0, y0, x1, y1 = crop
            seen = embedding or self.predictor.encode(np.ascontiguousarray(image[y0:y1, x0:x1]))
            embedding = None  # it is of the first crop, the whole picture
            for clicks in (grid * torch.tensor([x1 - x0, y1 - y0])).split(self.options.points_per_batch):
                of_crop += self._search(seen, clicks, crop, image.shape[:2])
                yield next(done), total
            found += _distinct(of_crop, [f.predicted_iou for f in of_crop], self.options.max_box_overlap)
        if len(crops) > 1:  # the same thing found in several crops: the smallest crop saw it best
            areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (f.crop_xyxy for f in found)]
            found = _distinct(found, [1 / area for area in areas], self.options.max_crop_overlap)
        return found

    def _grid(self, layer: int) -> Tensor:
        options = self.options
        if options.point_grids is not None:
            return torch.from_numpy(np.asarray(options.point_grids[layer], np.float64))
        return unit_grid(max(1, int(options.points_per_side / options.points_shrink**layer)))

    def _search(
        self, embedding: ImageEmbedding, clicks: Tensor, crop: Box, size_hw: tuple[int, int]
    ) -> list[FoundMask]:
        """Answer a batch of clicks; fewer at once where the device has no room for all."""
        try:
            return self._found(embedding, clicks, crop, size_hw)
        except (RuntimeError, MemoryError) as error:
            if len(clicks) == 1 or not is_out_of_memory(error):
                raise
        halves = clicks.split(ceil(len(clicks) / 2))
        return [found for half in halves for found in self._search(embedding, half, crop, size_hw)]

    def _found(self, embedding: ImageEmbedding, clicks: Tensor, crop: Box, size_hw: tuple[int, int]) -> list[FoundMask]:
        """What is good, steady and not cut off by the crop's edge among the answers to some clicks."""
        options = self.options
        answer = self._ask(embedding, clicks, multimask=options.multimask)
        candidates = answer.raw.shape[1]
        answer = answer.flat(torch.arange(len(answer) * candidates, device=answer.raw.device))
        points = clicks.repeat_interleave(candidates, dim=0)
        if options.refine:
            answer = self._ask(embedding, points, multimask=False, low_res=answer.low_res)
        limit = options.min_predicted_iou if options.min_predicted_iou > 0 else -inf
        good = answer.predicted_iou[:, 0] > limit
        found: list[FoundMask] = []
        # full-size logits are made for a few masks at a time: a phone photo has millions of pixels
        for rows in good.nonzero()[:, 0].split(_MASKS_AT_A_TIME):
            found += self._finish(answer.flat(rows), points[rows.cpu()], crop, size_hw)
        return found

    def _finish(self, answer: Masks, points: Tensor, crop: Box, size_hw: tuple[int, int]) -> list[FoundMask]:
        """Filter full-size masks and pack them as run lengths of the whole picture."""
        options, (x0, y0, x1, y1) = self.options, crop
        logits = answer.logits[:, 0]
        steady = stability(logits, offset=options.stability_offset, threshold=options.threshold)
        masks = logits > options.threshold
        boxes = mask_boxes(masks)
        keep = ~_cut_off(boxes, crop, size_hw)
        if options.min_stability > 0:
            # a mask that is empty at both thresholds is no mask, however steady
            seen = (logits > options.threshold - options.stability_offset).flatten(1).any(dim=1)
            keep &= (steady >= options.min_stability) & seen
        rows = keep.nonzero()[:, 0]  # a GPU is waited for once for all of them
        kept = masks[rows].cpu().numpy(), boxes[rows].tolist(), points[rows.cpu()].tolist()
        scores = answer.predicted_iou[rows, 0].tolist(), steady[rows].tolist()
        found = []
        for mask, box, point, predicted_iou, stays in zip(*kept, *scores, strict=True):
            whole = np.zeros(size_hw, bool)
            whole[y0:y1, x0:x1] = mask
            found.append(
                FoundMask(
                    runs=mask_to_runs(whole),
                    box_xyxy=(box[0] + x0, box[1] + y0, box[2] + x0, box[3] + y0),
                    predicted_iou=predicted_iou,
                    stability=stays,
                    point_xy=(point[0] + x0, point[1] + y0),
                    crop_xyxy=crop,
                )
            )
        return found

    def _ask(
        self, embedding: ImageEmbedding, clicks: Tensor, *, multimask: bool, low_res: Tensor | None = None
    ) -> Masks:
        """Every click as a prompt of its own."""
        model = self.predictor.model
        square = points_to_square(clicks.float(), embedding.size_hw, model.config.side)[:, None].to(model.device)
        labels = torch.ones(square.shape[:2], dtype=torch.int64, device=model.device)
        return self.predictor.predict_square(embedding, PromptTensors(square, labels, low_res), multimask)


def run_steps(steps: Steps[Found], progress: Progress | None = None) -> Found:
    """What a search returns that goes step by step; `progress` is called with each step, and may raise to stop."""
    with closing(steps):
        while True:
            try:
                report = next(steps)
            except StopIteration as end:
                return end.value
            if progress is not None:
                progress(*report)


def _distinct(found: list[FoundMask], scores: list[float], max_overlap: float) -> list[FoundMask]:
    """Of masks with nearly the same box, only the one with the best score; best first."""
    if not found:
        return found
    boxes = torch.tensor([f.box_xyxy for f in found])
    return [found[i] for i in suppress_overlapping(boxes, torch.tensor(scores), max_overlap).tolist()]


def unit_grid(points_per_side: int) -> Tensor:
    """[n * n, 2] float64 centres of a grid over the unit square, x fastest."""
    centre = (torch.arange(points_per_side, dtype=torch.float64) + 0.5) / points_per_side
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def crop_boxes(size_hw: tuple[int, int], options: AutomaticOptions) -> Iterator[tuple[Box, int]]:
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
                if x < width and y < height:
                    yield (x, y, min(x + long_x, width), min(y + long_y, height)), layer


def _cut_off(boxes: Tensor, crop: Box, size_hw: tuple[int, int]) -> Tensor:
    """[K] bool: boxes that end at an edge of the crop which is no edge of the picture."""
    edges = torch.tensor(crop, device=boxes.device)
    borders = torch.tensor([0, 0, size_hw[1], size_hw[0]], device=boxes.device)
    placed = boxes + edges[[0, 1, 0, 1]]
    at_crop = (placed - edges).abs() <= _NEAR_EDGE
    at_picture = (placed - borders).abs() <= _NEAR_EDGE
    return (at_crop & ~at_picture).any(dim=1)


def to_detections(found: Sequence[FoundMask], classes: Sequence[str] = ()) -> supervision.Detections:
    """Found masks as `supervision.Detections`.

    Args:
        classes: as `Detector.classes`: they number the masks' names, and the score is the confidence. Without any,
            every mask is a class of its own, and predicted IoU the confidence.
    """
    if not found:
        import supervision

        return supervision.Detections.empty()
    masks = np.stack([f.mask for f in found])
    if not classes:
        return detections_of(masks, np.array([f.predicted_iou for f in found]))
    numbers = np.array([list(classes).index(f.name) for f in found])
    scores, names = np.array([f.score for f in found]), np.array([f.name for f in found])
    return detections_of(masks, scores, class_id=numbers, names=names)
