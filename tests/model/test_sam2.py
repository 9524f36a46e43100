"""Shapes, sides, precisions and checkpoint names of the model."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest
import torch

from sam2kit.config import PRESETS, SAM2Config, preset
from sam2kit.model.layers import StochasticDepth
from sam2kit.model.mask_decoder import Candidates, choose_candidates, expected_iou, stability
from sam2kit.model.sam2 import SAM2, PromptTensors
from tests.golden import weights
from tests.golden_models import GOLDEN

ONLY_2_1 = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight", "obj_ptr_tpos_proj.bias")
PARAMETERS = {"tiny": 38_962_498, "small": 46_060_354, "base_plus": 80_850_178, "large": 224_446_642}


@pytest.mark.parametrize("version", ["2.0", "2.1"])
@pytest.mark.parametrize("size", PARAMETERS)
def test_names_and_shapes_are_those_of_the_published_checkpoints(size: str, version: str) -> None:
    published = json.loads((GOLDEN / "state_dict" / f"{size}-2.1.json").read_text())
    if version == "2.0":
        published = {k: v for k, v in published.items() if k not in ONLY_2_1}
    with torch.device("meta"):
        model = SAM2(preset(f"sam2{'.1' if version == '2.1' else ''}-hiera-{size.replace('_', '-')}"))
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == published
    if version == "2.1":
        assert sum(p.numel() for p in model.parameters()) == PARAMETERS[size]


def test_golden_weights_have_their_fingerprint() -> None:
    shapes = json.loads((GOLDEN / "state_dict" / "tiny-2.1.json").read_text())
    assert f"{weights.fingerprint(shapes):08x}" == "c5b4ddcb"


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("side", [32, 96, pytest.param(224, marks=pytest.mark.slow)])
def test_every_preset_works_at_any_multiple_of_32(name: str, side: int) -> None:
    config = preset(name)
    side *= 8 if config.memory.latents_edge else 1  # a window for each local latent
    few = {"blocks_per_stage": (1, 1, 2, 1), "global_blocks": (3,), "blocks": 3}
    sizes = {field.name: few[field.name] for field in fields(config.trunk) if field.name in few}
    model = SAM2(replace(config, side=side, trunk=replace(config.trunk, **sizes))).eval()
    prompts = PromptTensors(torch.rand(2, 1, 2) * side, torch.ones(2, 1))
    with torch.inference_mode():
        features = model.encode_image(torch.zeros(1, 3, side, side))
        answer = model.segment(model.without_memory(features.stride16), features, prompts, multimask=True)
    assert answer.mask_logits.shape == (2, 3, side // 4, side // 4)
    assert answer.predicted_iou.shape == (2, 3)
    assert answer.object_score.shape == (2, 1)


def test_config_survives_json() -> None:
    for config in PRESETS.values():
        assert SAM2Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    with pytest.raises(ValueError, match="update sam2kit"):
        SAM2Config.from_dict({"wings": 2})
    for side in (0, 31, 100, -32):
        with pytest.raises(ValueError, match="multiple of 32"):
            preset("nano", side=side)
    with pytest.raises(ValueError, match=r"sam2\.1-hiera-tiny"):
        preset("sam3")


def test_a_certain_mask_is_expected_to_be_right() -> None:
    logits = torch.full((3, 4, 4), -20.0)
    logits[0, :2] = 20.0  # sure of all pixels
    logits[1, :2] = 0.1  # barely above one half
    logits[1, 2:] = -0.1  # and barely below
    expected = expected_iou(logits)
    assert expected[0] == pytest.approx(1.0, abs=1e-6)
    assert expected[1] == pytest.approx(0.525 / (1 + 0.475), abs=1e-3)
    assert expected[2] == 0.0, "an empty mask expects nothing"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_half_precision(toy: SAM2, dtype: torch.dtype, how: str) -> None:
    pixels = torch.randn(1, 3, 64, 64)
    prompts = PromptTensors(torch.tensor([[[20.0, 30.0]]]), torch.ones(1, 1), torch.randn(1, 1, 16, 16))

    def run() -> Candidates:
        with torch.inference_mode(), toy.precision():
            features = toy.encode_image(pixels)
            return toy.segment(toy.without_memory(features.stride16), features, prompts, multimask=True)

    exact = run()
    if how == "autocast":
        toy.compute_dtype = dtype
    else:
        toy.to(dtype)
    rough = run()
    assert rough.mask_logits.dtype == torch.float32
    assert rough.predicted_iou.isfinite().all()
    torch.testing.assert_close(rough.predicted_iou, exact.predicted_iou, atol=0.03, rtol=0)
    torch.testing.assert_close(rough.mask_logits, exact.mask_logits, atol=0.1, rtol=0.1)


def test_an_outer_autocast_does_not_reach_a_float32_model(toy: SAM2) -> None:
    with torch.autocast("cpu", torch.bfloat16), toy.precision():
        assert toy.encode_image(torch.zeros(1, 3, 64, 64)).stride16.dtype == torch.float32


def test_prompts_in_a_batch_equal_prompts_alone(toy: SAM2) -> None:
    points = torch.tensor([[[10.0, 10.0]], [[50.0, 30.0]], [[20.0, 60.0]]])
    with torch.inference_mode():
        features = toy.encode_image(torch.randn(1, 3, 64, 64))
        image = toy.without_memory(features.stride16)
        together = toy.segment(image, features, PromptTensors(points, torch.ones(3, 1)), multimask=True)
        for i in range(3):
            alone = toy.segment(image, features, PromptTensors(points[i : i + 1], torch.ones(1, 1)), multimask=True)
            torch.testing.assert_close(alone.mask_logits[0], together.mask_logits[i], atol=1e-5, rtol=1e-4)


def test_unstable_single_masks_are_replaced() -> None:
    logits = torch.full((2, 4, 8, 8), -5.0)
    logits[0, 0] = 0.01  # neither inside nor outside
    logits[1, 0, :4] = 5.0
    logits[:, 2, :2] = 5.0
    four = Candidates(logits, torch.tensor([[0.9, 0.1, 0.8, 0.3]] * 2), torch.zeros(2, 1), torch.randn(2, 4, 8))
    kept = choose_candidates(four, multimask=False, replace_unstable=True)
    assert torch.equal(kept.mask_logits[0, 0], logits[0, 2])
    assert torch.equal(kept.mask_logits[1, 0], logits[1, 0])
    assert torch.equal(kept.mask_tokens, four.mask_tokens[:, :1])
    plain = choose_candidates(four, multimask=False, replace_unstable=False)
    assert torch.equal(plain.mask_logits[0, 0], logits[0, 0])
    assert stability(torch.full((1, 4, 4), -9.0), offset=1.0).item() == 1.0


def test_stochastic_depth_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = StochasticDepth(0.25).train()
    dropped = layer(torch.ones(4000, 1))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(layer.eval()(torch.ones(3, 1)), torch.ones(3, 1))
