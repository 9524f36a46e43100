"""Segment everything against golden vectors of the official generator."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from sam2kit.compat import SAM2AutomaticMaskGenerator
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from tests.golden import inputs
from tests.golden_models import GOLDEN, compare, golden_model

COMMON = {
    "points_per_side": 8,
    "points_per_batch": 24,
    "mask_threshold": 16.0,
    "pred_iou_thresh": 0.5,
    "stability_score_thresh": 0.15,
    "stability_score_offset": 1.0,
    "box_nms_thresh": 0.8,
}
RUNS = {
    "base": {},
    "single": {"multimask_output": False},
    "m2m": {"use_m2m": True, "mask_threshold": 9.0, "box_nms_thresh": 1.0, "pred_iou_thresh": 0.6},
    "crops": {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2},
    "minarea": {
        "min_mask_region_area": 20, "mask_threshold": 0.0, "box_nms_thresh": 1.0, "pred_iou_thresh": 0.94,
        "stability_score_thresh": 0.5,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> SAM2:
    return golden_model("tiny", "2.1")


@pytest.fixture(scope="module", autouse=True)
def _each_picture_is_encoded_once() -> object:
    encode = ImagePredictor.encode

    @cache
    def encoded(model: SAM2, pixels: bytes, shape: tuple[int, ...]) -> object:
        return encode(ImagePredictor(model), np.frombuffer(pixels, np.uint8).reshape(shape))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImagePredictor, "encode", lambda self, p: encoded(self.model, p.tobytes(), p.shape))
        yield


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_run(model: SAM2, run: str) -> None:
    golden, name = np.load(GOLDEN / "amg-tiny-2.1.npz"), f"automatic {run}"
    records = SAM2AutomaticMaskGenerator(model, **(COMMON | RUNS[run])).generate(inputs.image())
    assert len(records) == len(golden[f"{run}/area"])
    for key, ours, limit in (
        ("bbox", "bbox", 1.0),
        ("crop_box", "crop_box", 1e-3),
        ("point", "point_coords", 1e-3),
        ("predicted_iou", "predicted_iou", 1e-5),
        ("stability_score", "stability_score", 5e-3),
    ):
        wanted = golden[f"{run}/{key}"]
        compare(f"{name}: {key}", np.array([r[ours] for r in records], float).reshape(wanted.shape), wanted, limit)
    areas = np.array([r["area"] for r in records], float)
    compare(f"{name}: area [share]", areas / golden[f"{run}/area"], np.ones(len(records)), 5e-3)
    if f"{run}/masks/bits" in golden:
        masks = np.stack([r["segmentation"] for r in records])
        shape = golden[f"{run}/masks/shape"].astype(int)
        wanted = np.unpackbits(golden[f"{run}/masks/bits"])[: shape.prod()].reshape(shape).astype(bool)
        compare(f"{name}: share of differing mask pixels", np.mean(masks != wanted), np.zeros(()), 5e-4)
