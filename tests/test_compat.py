"""The official names, arguments and shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from sam2kit.compat import SAM2AutomaticMaskGenerator, SAM2ImagePredictor, build_sam2, preset_of_config
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import save_model


@pytest.fixture
def predictor(toy: SAM2) -> SAM2ImagePredictor:
    return SAM2ImagePredictor(toy)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("configs/sam2.1/sam2.1_hiera_l.yaml", "sam2.1-hiera-large"),
        ("sam2.1_hiera_b+.yaml", "sam2.1-hiera-base-plus"),
        ("configs/sam2/sam2_hiera_t.yaml", "sam2-hiera-tiny"),
        ("sam2.1-hiera-small", "sam2.1-hiera-small"),
    ],
)
def test_config_names(config: str, name: str) -> None:
    assert preset_of_config(config) == name


def test_unknown_config() -> None:
    with pytest.raises(ValueError, match="unknown config"):
        preset_of_config("sam3.yaml")


def test_the_notebooks_calls(predictor: SAM2ImagePredictor, photo: np.ndarray) -> None:
    predictor.set_image(Image.fromarray(photo))
    masks, scores, logits = predictor.predict(
        point_coords=np.array([[30, 20]]), point_labels=np.array([1]), multimask_output=True
    )
    assert (masks.shape, scores.shape, logits.shape) == ((3, 40, 60), (3,), (3, 16, 16))
    assert masks.dtype == bool
    assert predictor._features["image_embed"].shape == (1, 32, 4, 4)
    best = logits[np.argmax(scores)][None]
    masks, scores, _ = predictor.predict(
        np.array([[30, 20], [10, 10]]), np.array([1, 0]), mask_input=best, multimask_output=False
    )
    assert masks.shape == (1, 40, 60)
    boxes = np.array([[0, 0, 20, 20], [10, 10, 50, 30], [5, 5, 9, 9], [1, 1, 59, 39]])
    masks, scores, logits = predictor.predict(box=boxes, multimask_output=False)
    assert (masks.shape, scores.shape, logits.shape) == ((4, 1, 40, 60), (4, 1), (4, 1, 16, 16))
    logits, _, _ = predictor.predict(box=boxes[0], return_logits=True)
    assert logits.dtype == np.float32


def test_unit_coordinates(predictor: SAM2ImagePredictor, photo: np.ndarray) -> None:
    predictor.set_image(photo)
    in_pixels = predictor.predict([[30, 20]], [1])[2]
    in_units = predictor.predict([[0.5, 0.5]], [1], normalize_coords=False)[2]
    np.testing.assert_allclose(in_pixels, in_units, atol=1e-4)


def test_batches_of_pictures(predictor: SAM2ImagePredictor, photo: np.ndarray) -> None:
    predictor.set_image_batch([photo, photo[:20]])
    masks, scores, _ = predictor.predict_batch(
        [np.array([[[5, 5]], [[9, 9]]]), np.array([[7, 7]])], [np.array([[1], [1]]), np.array([1])]
    )
    assert masks[0].shape == (2, 3, 40, 60)
    assert masks[1].shape == (3, 20, 60)
    assert scores[0].shape == (2, 3)


def test_calls_out_of_order(predictor: SAM2ImagePredictor, photo: np.ndarray) -> None:
    with pytest.raises(RuntimeError, match="set_image"):
        predictor.predict([[1, 1]], [1])
    predictor.set_image(photo)
    with pytest.raises(RuntimeError, match="set_image_batch"):
        predictor.predict_batch()
    with pytest.raises(ValueError, match="point_labels"):
        predictor.predict([[1, 1]])


def test_build_from_a_file(toy: SAM2, tmp_path) -> None:  # noqa: ANN001
    path = save_model(toy, tmp_path / "toy.safetensors")
    assert build_sam2("sam2.1_hiera_t.yaml", path, device="cpu").config == toy.config
    assert SAM2ImagePredictor.from_pretrained(str(path), device="cpu").device.type == "cpu"


@pytest.mark.parametrize("mode", ["binary_mask", "uncompressed_rle", "coco_rle"])
def test_automatic_records(toy: SAM2, photo: np.ndarray, mode: str) -> None:
    generator = SAM2AutomaticMaskGenerator(
        toy, points_per_side=2, pred_iou_thresh=0.0, stability_score_thresh=0.0, output_mode=mode
    )
    records = generator.generate(photo)
    assert records
    for record in records:
        assert set(record) == {
            "segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score", "crop_box",
        }  # fmt: skip
        assert record["crop_box"] == [0, 0, 60, 40]
    first = records[0]["segmentation"]
    assert isinstance(first, np.ndarray) if mode == "binary_mask" else set(first) == {"size", "counts"}


def test_own_grids(toy: SAM2, photo: np.ndarray) -> None:
    grid = np.array([[0.5, 0.5]])
    limits = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
    generator = SAM2AutomaticMaskGenerator(toy, points_per_side=None, point_grids=[grid], **limits)
    assert all(r["point_coords"] == [[30, 20]] for r in generator.generate(photo))
    with pytest.raises(ValueError, match="either points_per_side or point_grids"):
        SAM2AutomaticMaskGenerator(toy, point_grids=[grid])


def test_the_scripts_autocast_decides(toy: SAM2, photo: np.ndarray, tmp_path) -> None:  # noqa: ANN001
    model = build_sam2("sam2.1_hiera_t.yaml", save_model(toy, tmp_path / "toy.safetensors"), device="cpu")
    predictor = SAM2ImagePredictor(model)
    with torch.autocast("cpu", torch.bfloat16):
        predictor.set_image(photo)
    assert predictor._features["high_res_feats"][0].dtype == torch.bfloat16
    predictor.set_image(photo)
    assert predictor._features["high_res_feats"][0].dtype == torch.float32


def test_unknown_output_mode(toy: SAM2) -> None:
    with pytest.raises(ValueError, match="output_mode"):
        SAM2AutomaticMaskGenerator(toy, output_mode="png")
