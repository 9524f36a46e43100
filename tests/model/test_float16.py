"""float16 ends at 65504: numbers that grow beyond are held there, and every other precision is left as it is."""

from __future__ import annotations

import re
from importlib import import_module

import pytest
import torch
from torch import Tensor

from sam2kit.model.layers import LARGEST, within_range
from sam2kit.model.memory_bank import Memories
from sam2kit.model.sam2 import SAM2, PromptTensors
from tests.toy_model import toy_model

# weights that are made larger, and the layer whose numbers in float32 then no longer fit float16
LARGE = {
    "patches": (r"patch_embed\.proj\.", r"patch_embed\.proj"),
    "residual stream": (r"trunk\.blocks\.1\.attn\.proj\.", r"trunk\.blocks\.1\.attn\.proj"),
    "pooled skip": (r"trunk\.blocks\.1\.proj\.", r"trunk\.blocks\.1\.proj"),
    "hidden in the trunk": (r"trunk\.blocks\.2\.mlp\.layers\.0\.", r"trunk\.blocks\.2\.mlp\.layers\.0"),
    "end of the trunk's MLP": (r"trunk\.blocks\.2\.mlp\.layers\.1\.", r"trunk\.blocks\.2\.mlp\.layers\.1"),
    "neck": (r"neck\.convs\.", r"neck\.convs\.0"),
    "detail": (r"mask_decoder\.conv_s[01]\.", r"mask_decoder\.conv_s0"),
    "mask prompt": (r"mask_downscaling\.[036]\.", r"mask_downscaling\.6"),
    "decoder's attention": (
        r"transformer\.layers\.1\.self_attn\.out_proj\.",
        r"transformer\.layers\.1\.self_attn\.out_proj",
    ),
    "attention of the picture": (
        r"image_to_token\.out_proj\.",
        r"transformer\.layers\.0\.cross_attn_image_to_token\.out_proj",
    ),
    "decoder's MLP": (r"transformer\.layers\..\.mlp\.", r"transformer\.layers\.0\.mlp\.layers\.0"),
    "upscaling": (r"output_upscaling\.[03]\.", r"output_upscaling\.3"),
    "hypernetworks": (r"hypernetworks_mlps\.", r"hypernetworks_mlps\.0"),
    "heads": (r"(iou_prediction|obj_score)_head\.", r"iou_prediction_head"),
    "pointers": (r"obj_ptr_proj\.", r"obj_ptr_proj"),
    "mask in the memory encoder": (r"mask_downsampler\.encoder\.(3|12)\.", r"mask_downsampler\.encoder\.12"),
    "picture in the memory encoder": (r"pix_feat_proj\.", r"pix_feat_proj"),
    "hidden in the fuser": (r"fuser\.layers\.0\.pwconv1\.", r"fuser\.layers\.0\.pwconv1"),
    "residual in the fuser": (r"fuser\.layers\.0\.(gamma|pwconv2)", r"fuser\.layers\.0"),
    "sum in memory attention": (r"layers\.0\.cross_attn_image\.out_proj\.", r"layers\.0\.cross_attn_image\.out_proj"),
    "hidden in memory attention": (r"memory_attention\.layers\..\.linear1\.", r"memory_attention\.layers\.0\.linear1"),
    "memory": (r"memory_encoder\.out_proj\.", r"memory_encoder\.out_proj"),
}
WAYS = ("autocast", "weights")
GUARDED = (
    "attention", "image_encoder", "layers", "mask_decoder", "memory_attention", "memory_encoder", "positions",
    "prompt_encoder", "sam2",
)  # fmt: skip


def large(place: str) -> SAM2:
    """A toy whose numbers at a place are far beyond float16."""
    model = toy_model()
    for name, weight in model.named_parameters():
        if re.search(r"\.[qkv]_proj\.", name) and "attention" not in place:
            weight.data *= 1e-4  # the place alone is large, and not what attention makes of it
        if re.search(LARGE[place][0], name):
            weight.data *= 65000 / weight.abs().max().clamp(min=1e-9)  # the weights themselves still fit
    return model


def passes(model: SAM2) -> list[Tensor]:
    """A click, a rough mask, what is remembered of them, and a frame that recalls it: all that a model gives."""
    pixels = torch.linspace(-2, 2, 2 * 3 * 64 * 64).view(2, 3, 64, 64).sin()
    click = PromptTensors(torch.full((1, 1, 2), 30.0), torch.ones(1, 1))
    rough = PromptTensors(torch.full((1, 1, 2), 30.0), torch.ones(1, 1), torch.linspace(-9, 9, 256).view(1, 1, 16, 16))
    with torch.inference_mode(), model.precision():
        features = model.encode_image(pixels)
        first, second = features[:1], features[1:]
        image = model.without_memory(first.stride16)
        found = [model.segment(image, first, prompt, multimask=True) for prompt in (click, rough)]
        answer = model.answer(image, first, click)
        memory = model.remember(first.stride16, answer.mask_logits, torch.ones(1, dtype=torch.bool), binary=False)
        memories = Memories(memory[:, None], torch.zeros(1, dtype=torch.long), answer.pointer[:, None], torch.ones(1))
        later = model.answer(model.recall(second.stride16, memories), second)
    parts = (features, *found, answer, later)
    return [t for part in parts for t in vars(part).values() if isinstance(t, Tensor)] + [memory]


def in_float16(model: SAM2, way: str) -> SAM2:
    if way == "weights":
        return model.cast_weights(torch.float16)
    model.compute_dtype = torch.float16
    return model


def finite(tensors: list[Tensor]) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors)


@pytest.mark.parametrize("place", LARGE)
def test_large_numbers_stay_finite(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact, seen = large(place), []
    for name, module in exact.named_modules():
        if re.search(LARGE[place][1] + "$", name):
            module.register_forward_hook(lambda module, inputs, out: seen.append(float(out.abs().max())))
    passes(exact)
    assert max(seen) > LARGEST, "the place is a large one"
    for way in WAYS:
        assert finite(passes(in_float16(large(place), way))), way
    for module in GUARDED:
        monkeypatch.setattr(import_module(f"sam2kit.model.{module}"), "within_range", lambda x: x)
    assert not all(finite(passes(in_float16(large(place), way))) for way in WAYS), "nothing had to be held"


def test_other_precisions_are_left_alone() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        large = torch.tensor([1e6, -1e6, 1.0], dtype=dtype)
        assert within_range(large) is large
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert within_range(large) is large
    counts = torch.tensor([10**6])
    with torch.autocast("cpu", dtype=torch.float16):
        assert within_range(counts) is counts
        assert within_range(torch.tensor([1e6, -1e6, 1.0])).tolist() == [LARGEST, -LARGEST, 1.0]
    assert within_range(torch.tensor([torch.inf, -torch.inf, 1.0]).half()).tolist() == [LARGEST, -LARGEST, 1.0]


def test_it_can_be_compiled() -> None:
    compiled = torch.compile(within_range, backend="eager", fullgraph=True)
    with torch.autocast("cpu", dtype=torch.float16):
        assert compiled(torch.tensor([1e6])).item() == LARGEST
    assert compiled(torch.tensor([1e6])).item() == 1e6


def test_usual_numbers_are_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [passes(in_float16(toy_model(), way)) for way in WAYS]
    for module in GUARDED:
        monkeypatch.setattr(import_module(f"sam2kit.model.{module}"), "within_range", lambda x: x)
    for way, before in zip(WAYS, held, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(before, passes(in_float16(toy_model(), way)), strict=True))
