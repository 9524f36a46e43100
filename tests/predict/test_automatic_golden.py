"""Segment everything against golden vectors of the official generator."""

from __future__ import annotations

import numpy as np
import pytest

from sam2kit.compat import SAM2AutomaticMaskGenerator
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticOptions
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


@pytest.mark.parametrize("run", RUNS)
def test_run(model: SAM2, run: str) -> None:
    golden = np.load(GOLDEN / "amg-tiny-2.1.npz")
    generator = SAM2AutomaticMaskGenerator(model, **(COMMON | RUNS[run]))
    records = generator.generate(inputs.image())
    name = f"automatic {run}"
    assert len(records) == len(golden[f"{run}/area"])
    for key, ours in (("bbox", "bbox"), ("crop_box", "crop_box"), ("point", "point_coords")):
        got = np.array([r[ours] for r in records], float).reshape(golden[f"{run}/{key}"].shape)
        compare(f"{name}: {key} [pixels]", got, golden[f"{run}/{key}"], 1.0 if key == "bbox" else 1e-3)
    compare(
        f"{name}: predicted IoU", np.array([r["predicted_iou"] for r in records]), golden[f"{run}/predicted_iou"], 1e-5
    )
    compare(
        f"{name}: stability", np.array([r["stability_score"] for r in records]), golden[f"{run}/stability_score"], 5e-3
    )
    areas = np.array([r["area"] for r in records], float)
    compare(f"{name}: area [share]", areas / golden[f"{run}/area"], np.ones(len(records)), 5e-3)
    if f"{run}/masks/bits" in golden:
        masks = np.stack([r["segmentation"] for r in records])
        shape = golden[f"{run}/masks/shape"].astype(int)
        wanted = np.unpackbits(golden[f"{run}/masks/bits"])[: shape.prod()].reshape(shape).astype(bool)
        compare(f"{name}: share of differing mask pixels", np.mean(masks != wanted), np.zeros(()), 5e-4)


def test_numpy_counts_will_do() -> None:
    options = AutomaticOptions(points_per_side=np.int64(8), crop_layers=np.int32(2))
    assert (options.points_per_side, options.crop_layers) == (8, 2)
    with pytest.raises(ValueError, match=r"points_per_side must be a whole number from 1 to 256, got 2\.5"):
        AutomaticOptions(points_per_side=2.5)
