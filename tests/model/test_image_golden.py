"""The image path against golden vectors of the official code, every size and version, each intermediate."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from sam2kit.compat import SAM2ImagePredictor
from sam2kit.compat.internals import prompt_parts
from sam2kit.model.positions import sine_map
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.geometry import image_to_square
from sam2kit.predict.image import ImagePredictor
from tests.golden import inputs
from tests.golden_models import GOLDEN, compare, golden_model

LARGER = [("tiny", "2.0"), ("small", "2.1"), ("base_plus", "2.1"), ("large", "2.1")]
VARIANTS = [("tiny", "2.1"), *(pytest.param(*variant, marks=pytest.mark.slow) for variant in LARGER)]

BOX = [400, 106, 528, 277]
CASES = {  # name: (points, labels, box, uses click_multi's best mask, multimask)
    "click_multi": ([[160, 170]], [1], None, False, True),
    "click_single": ([[160, 170]], [1], None, False, False),
    "click_square_multi": ([[290, 330]], [1], None, False, True),
    "two_clicks": ([[160, 170], [420.5, 120.25]], [1, 0], None, False, False),
    "two_clicks_multi": ([[160, 170], [420.5, 120.25]], [1, 0], None, False, True),
    "box": (None, None, BOX, False, False),
    "box_click": ([[450, 200]], [1], BOX, False, False),
    "box_negclick_multi": ([[410, 270]], [0], BOX, False, True),
    "mask_click": ([[160, 170], [300, 60]], [1, 0], None, True, False),
    "mask_only": (None, None, None, True, False),
}


@pytest.mark.parametrize(("size", "version"), VARIANTS)
def test_image_path(size: str, version: str) -> None:
    """In one pass: tensors through the model and masks through the predictors."""
    golden = np.load(GOLDEN / f"image-{size}-{version}.npz")
    model = golden_model(size, version)
    name, stride = f"image {size} {version}", 2 if (size, version) == ("tiny", "2.1") else 4
    predictor, seen = SAM2ImagePredictor(model), {}
    for part in ("trunk", "neck"):
        module = model.image_encoder.get_submodule(part)
        module.register_forward_hook(lambda _, given, out, part=part: seen.update({part: (given[0], out)}))
    with torch.inference_mode():
        predictor.set_image(inputs.image())
        _check_encoder(model, seen, golden, name)
        _check_prompts(model, predictor, golden, name, stride)
    seen.clear()
    del model, predictor
    gc.collect()


def _check_encoder(model: SAM2, seen: dict, golden: np.lib.npyio.NpzFile, name: str) -> None:
    square, maps = seen["trunk"]
    compare(f"{name}: input", square[0, :, 3::64, 5::64], golden["input"], 1e-6)
    for i, stage in enumerate(maps):
        channels, height, width = stage.shape[1:]
        sample = stage[0, :: max(1, channels // 24), 1 :: height // 8, 2 :: width // 8]
        compare(f"{name}: trunk", sample, golden[f"trunk{i}"], 1e-4)
    for i, level in enumerate(seen["neck"][1]):
        side = level.shape[-1]
        compare(f"{name}: neck", level[0, ::8, 1 :: side // 8, 2 :: side // 8], golden[f"fpn{i}"], 1e-4)
        places = sine_map(side, side, 256)[::8, 1 :: side // 8, 2 :: side // 8]
        compare(f"{name}: sine positions", places, golden[f"fpn{i}_pos"], 1e-5)
    grid = model.sam_prompt_encoder.pe_layer.grid(64)
    compare(f"{name}: image positions", grid[0, ::4, 1::8, 2::8], golden["image_pe"], 1e-5)


def _check_prompts(
    model: SAM2, predictor: SAM2ImagePredictor, golden: np.lib.npyio.NpzFile, name: str, stride: int
) -> None:
    embedding = predictor._current()
    compare(f"{name}: image embedding", embedding.image[0, ::4, 1::8, 2::8], golden["image_embed"], 1e-4)
    compare(f"{name}: image embedding", embedding.image[0, :8, 10:26, 30:46], golden["image_embed_block"], 1e-4)
    for i, detail in enumerate((embedding.features.stride4, embedding.features.stride8)):
        side = detail.shape[-1] // 16
        compare(f"{name}: high-res features", detail[0, ::4, 1::side, 2::side], golden[f"high_res{i}"], 1e-4)
    best = None
    for case, (points, labels, box, uses_mask, multimask) in CASES.items():
        mask = best if uses_mask else None
        prompts = prompt_parts(*predictor._prep_prompts(points, labels, box, mask, True))
        encoder = model.sam_prompt_encoder
        if prompts.points_xy is not None:
            sparse = encoder.points(prompts.points_xy, prompts.labels, 1024)
            compare(f"{name}: prompt tokens", sparse[0], golden[f"{case}/sparse"].reshape(sparse[0].shape), 1e-5)
        dense = encoder.no_mask(64) if mask is None else encoder.mask(prompts.mask_logits, 64)
        compare(f"{name}: dense prompt", dense[0, ::8, 1::16, 2::16], golden[f"{case}/dense"], 1e-4)
        answer = model.segment(embedding.image, embedding.features, prompts, multimask=multimask)
        low = answer.mask_logits[0, :, 1::stride, 1::stride]
        compare(f"{name}: mask logits", low, golden[f"{case}/low"], 1e-4)
        compare(f"{name}: predicted IoU", answer.predicted_iou[0], golden[f"{case}/iou"].ravel(), 1e-5)
        compare(f"{name}: object score", answer.object_score[0], golden[f"{case}/object_score"].ravel(), 1e-4)
        compare(f"{name}: mask tokens", answer.mask_tokens[0], golden[f"{case}/token"].reshape(-1, 256), 1e-4)
        masks, ious, low_res = predictor.predict(points, labels, box, mask, multimask)
        if case == "click_multi":
            best = low_res[ious.argmax()][None]
        _check_masks(masks, golden, case, name)
    boxes = [[400, 106, 528, 277], [90, 100, 230, 240], [240, 293, 346, 399]]
    masks, ious, low_res = predictor.predict(box=boxes, multimask_output=False)
    compare(f"{name}: mask logits", low_res[..., 1::8, 1::8], golden["boxes3/low"], 1e-4)
    compare(f"{name}: predicted IoU", ious, golden["boxes3/iou"].reshape(ious.shape), 1e-5)
    _check_masks(masks, golden, "boxes3", name)
    logits, _, _ = predictor.predict([[450, 200]], [1], BOX, multimask_output=False, return_logits=True)
    if "box_click/logits" in golden:
        compare(f"{name}: logits at picture size", logits[:, 1::8, 1::8], golden["box_click/logits"], 1e-4)


def _check_masks(masks: np.ndarray, golden: np.lib.npyio.NpzFile, case: str, name: str) -> None:
    if f"{case}/mask/bits" not in golden:
        return
    shape = golden[f"{case}/mask/shape"].astype(int)
    wanted = np.unpackbits(golden[f"{case}/mask/bits"])[: shape.prod()].reshape(shape).astype(bool)
    assert masks.dtype == bool
    compare(f"{name}: share of differing mask pixels", np.mean(masks.reshape(shape) != wanted), np.zeros(()), 5e-4)


def test_pictures_larger_than_the_square_are_antialiased() -> None:
    golden = np.load(GOLDEN / "resize.npz")
    square = image_to_square(torch.from_numpy(inputs.scene(1500, 2000, 1)).permute(2, 0, 1), 1024)
    compare("resize: large picture", square[:, 3::16, 5::16], golden["image_1500x2000"], 1e-5)


def test_a_batch_of_pictures_equals_one_by_one(nano: SAM2) -> None:
    predictor, pictures = ImagePredictor(nano), [inputs.image(), inputs.scene(200, 120)]
    for together, alone in zip(predictor.encode_batch(pictures), map(predictor.encode, pictures), strict=True):
        assert together.size_hw == alone.size_hw
        torch.testing.assert_close(together.image, alone.image, atol=1e-4, rtol=0)
