"""Clean-up, boxes, suppression, run lengths, segment everything."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from sam2kit.media.mask_files import mask_to_runs, run_counts, runs_to_mask
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions, crop_boxes, to_detections, unit_grid
from sam2kit.predict.geometry import (
    _small_components_on_device,
    clean_logits,
    mask_boxes,
    mask_to_logits,
    small_components,
    suppress_overlapping,
)


def test_holes_and_specks() -> None:
    """A block with a one-pixel hole, and a two-pixel speck that touches nothing but by a corner."""
    before = torch.full((1, 1, 12, 12), -3.0)
    before[..., 2:8, 2:8] = 3.0
    before[..., 4, 4] = -3.0
    before[..., 10, 9] = before[..., 11, 10] = 3.0
    assert clean_logits(before) is before
    filled = clean_logits(before, max_hole_area=1)
    assert filled[0, 0, 4, 4] == 10
    assert (filled != before).sum() == 1
    cleaned = clean_logits(before, max_hole_area=1, max_speck_area=2)
    assert cleaned[0, 0, 10, 9] == cleaned[0, 0, 11, 10] == -10, "corners connect: one speck of two pixels"
    assert torch.equal(clean_logits(before, max_speck_area=1), before)
    assert before[0, 0, 4, 4] == -3, "the argument is left alone"


def test_small_components_are_the_same_on_a_gpu() -> None:
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        regions = torch.rand(6, 40, 50, generator=torch.Generator().manual_seed(0)) < share
        for area in (1, 2, 5, 8, 64):
            assert torch.equal(_small_components_on_device(regions, area), small_components(regions, area))


def test_boxes_are_inclusive_and_zero_when_empty() -> None:
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 2:4, 3:7] = True
    assert mask_boxes(masks).tolist() == [[3, 2, 6, 3], [0, 0, 0, 0]]
    assert mask_boxes(masks[:0]).shape == (0, 4)


def test_suppression_keeps_the_best_of_each_pile() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10]])
    scores = torch.tensor([0.8, 0.9, 0.1, 0.9])
    assert suppress_overlapping(boxes, scores, 0.7).tolist() == [1, 2], "of equal scores the first stays"
    assert suppress_overlapping(boxes, scores, 1.0).tolist() == [1, 3, 0, 2]
    assert suppress_overlapping(boxes[:0], scores[:0], 0.5).tolist() == []


def test_run_lengths_agree_with_pycocotools() -> None:
    rng = np.random.default_rng(0)
    made = [rng.random((int(rng.integers(1, 90)), int(rng.integers(1, 90)))) < rng.random() ** 2 for _ in range(4)]
    for mask in (*made, np.ones((7, 9), bool), np.zeros((9, 7), bool)):
        runs = mask_to_runs(mask)
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert runs["counts"] == theirs["counts"].decode()
        for form in (runs, {**runs, "counts": run_counts(runs).tolist()}, theirs):
            assert np.array_equal(runs_to_mask(form), mask)
    with pytest.raises(ValueError, match="add up to 5"):
        runs_to_mask({"size": [2, 2], "counts": [2, 3]})


def test_a_mask_from_elsewhere_becomes_logits() -> None:
    mask = np.zeros((40, 80), bool)
    mask[:20, 20:60] = True
    mask[20:, 0:5] = True  # half of a pixel's width
    logits = mask_to_logits(mask, 8)
    assert logits.shape == (1, 8, 8)
    assert logits[0, 0].tolist() == [-10, -10, 10, 10, 10, 10, -10, -10]
    assert logits[0, 4].tolist() == [0, *[-10] * 7]
    with pytest.raises(ValueError, match=r"a mask is \[H, W\]"):
        mask_to_logits(mask[None], 8)


class TestEverything:
    def test_options(self) -> None:
        assert unit_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
        crops = list(crop_boxes((100, 200), AutomaticOptions(crop_layers=np.int32(1))))
        assert len(crops) == 5
        assert crops[0] == ((0, 0, 200, 100), 0)
        assert {c[2] for c, layer in crops if layer} == {117, 200}
        with pytest.raises(ValueError, match=r"points_per_side must be a whole number from 1 to 256, got 2\.5"):
            AutomaticOptions(points_per_side=2.5)

    def test_two_discs(self, nano: SAM2) -> None:
        y, x = np.mgrid[0:160, 0:240]
        discs = [(y - 80) ** 2 + (x - cx) ** 2 <= 30**2 for cx in (60, 180)]
        picture = np.full((160, 240, 3), (60, 60, 60), np.uint8)
        picture[discs[0]], picture[discs[1]] = (220, 60, 40), (40, 200, 220)
        seen = []
        options = AutomaticOptions(points_per_side=6, min_predicted_iou=0.6, min_stability=0.7)
        found = AutomaticMasks(nano, options).generate(picture, progress=lambda done, total: seen.append((done, total)))
        assert seen == [(1, 1)]
        for disc in discs:
            assert max((f.mask & disc).sum() / (f.mask | disc).sum() for f in found) > 0.8
        assert all(f.area == f.mask.sum() for f in found)
        assert len(to_detections(found)) == len(found) and len(to_detections([])) == 0

    def test_fewer_clicks_at_once_where_memory_is_short(self, toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
        picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
        options = AutomaticOptions(points_per_side=4, points_per_batch=16, min_predicted_iou=0, min_stability=0)
        wanted, segment, batches = AutomaticMasks(toy, options).generate(picture), toy.segment, []

        def short(image: torch.Tensor, features: Any, prompts: PromptTensors, *, multimask: bool) -> Any:
            batches.append(len(prompts))
            if len(prompts) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return segment(image, features, prompts, multimask=multimask)

        monkeypatch.setattr(toy, "segment", short)
        found = AutomaticMasks(toy, options).generate(picture)
        assert batches == [16, 8, 4, 4, 8, 4, 4]
        assert [f.runs for f in found] == [f.runs for f in wanted] and found

    def test_progress_may_stop_the_search(self, toy: SAM2, photo: np.ndarray) -> None:
        def stop(_done: int, _total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            AutomaticMasks(toy, AutomaticOptions(points_per_side=4)).generate(photo, progress=stop)
