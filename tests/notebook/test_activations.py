"""Noting calls leaves the model alone, and attention weights computed again are those that the model used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sam2kit.config import preset
from sam2kit.model.attention import Attention
from sam2kit.model.hiera import WindowAttention, from_windows, to_windows
from sam2kit.model.sam2 import SAM2
from sam2kit.notebook.activations import Call, attention_weights, block_attention, block_reaches, record_calls
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.video import VideoPredictor

PLACES = [(0.0, 0.0), (0.3, 0.8), (1.0, 1.0)]


@pytest.fixture(
    params=["toy", "nano", *(pytest.param(f"{v}-hiera-tiny", marks=pytest.mark.slow) for v in ("sam2.1", "sam2"))]
)
def model(request: pytest.FixtureRequest) -> SAM2:
    """Models of many shapes: with and without global blocks, one and several layers, windows that reach over."""
    if request.param in ("toy", "nano"):
        return request.getfixturevalue(request.param)
    torch.manual_seed(0)
    return SAM2(preset(request.param, side=160)).eval()


def track_a_little(model: SAM2) -> None:
    """Every box of the model at work."""
    predictor = VideoPredictor(model)
    session = predictor.open(list(np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), np.uint8)))
    predictor.add_points(session, 0, "a", [[30, 20]])
    predictor.add_box(session, 0, "b", [5, 5, 20, 30])
    assert len(list(predictor.propagate(session))) == 4


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def values_of(attention: nn.Module, call: Call) -> tuple[Tensor, nn.Linear]:
    """[B, heads, S, D] values, and the layer behind the attention."""
    if isinstance(attention, WindowAttention):
        values, behind = attention.qkv(call.arguments["x"]).chunk(3, dim=-1)[2].flatten(1, 2), attention.proj
    else:
        values, behind = attention.v_proj(call.arguments["value"]), attention.out_proj
    return values.unflatten(-1, (attention.heads, -1)).transpose(1, 2), behind


@torch.inference_mode()
def test_weights_times_values_are_the_output(model: SAM2) -> None:
    attentions = {n: m for n, m in model.named_modules() if isinstance(m, (Attention, WindowAttention))}
    with record_calls(model, *attentions) as calls:
        track_a_little(model)
    assert list(calls) == list(attentions)
    for name, attention in attentions.items():
        assert calls[name], f"{name} was not called"
        for call in (calls[name][0], calls[name][-1]):
            weights = attention_weights(attention, call)
            torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
            values, behind = values_of(attention, call)
            out = behind((weights @ values).transpose(1, 2).flatten(2))
            torch.testing.assert_close(out, call.output.flatten(1, -2), atol=1e-5, rtol=1e-5)


def test_some_queries_are_rows_of_all(toy: SAM2) -> None:
    name = "memory_attention.layers.0.cross_attn_image"
    with record_calls(toy, name) as calls:
        track_a_little(toy)
    attention, call = toy.get_submodule(name), calls[name][-1]
    everything = attention_weights(attention, call)
    torch.testing.assert_close(attention_weights(attention, call, [5, 2]), everything[:, :, [5, 2]])
    assert not torch.allclose(everything[:, :, 5], everything[:, :, 2]), "rows alike would prove nothing"
    with pytest.raises(ValueError, match="got a Hiera"):
        attention_weights(toy.image_encoder.trunk, Call({}, None))


def test_half_precision_has_full_precision_weights(toy: SAM2) -> None:
    toy.compute_dtype = torch.bfloat16
    names = ("image_encoder.trunk.blocks.2.attn", "memory_attention.layers.0.cross_attn_image")
    with record_calls(toy, *names) as calls:
        track_a_little(toy)
    for name in names:
        weights = attention_weights(toy.get_submodule(name), calls[name][-1])
        assert weights.dtype == torch.float32
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))


def test_a_call_holds_what_went_in_and_came_out(toy: SAM2, photo: np.ndarray) -> None:
    predictor, blocks = ImagePredictor(toy), [f"image_encoder.trunk.blocks.{i}.attn" for i in range(5)]
    final = "sam_mask_decoder.transformer.final_attn_token_to_image"
    names = ("image_encoder.trunk.blocks.*.attn", "image_encoder", "image_encoder.neck", "sam_mask_decoder", final)
    with record_calls(toy, *names) as calls:
        embedding = predictor.encode(photo)
        assert len(calls["image_encoder"]) == 1, "it fills while the block runs"
        predictor.predict(embedding, Prompt([[3, 4]]))
        predictor.predict(embedding, Prompt([[9, 4]]))
    assert list(calls) == [*blocks, *names[1:]]
    assert calls["image_encoder"][0].arguments["pixels"].shape == (1, 3, 64, 64)
    assert calls["image_encoder"][0].output[2] is calls["image_encoder.neck"][0].output[2]
    assert [c.arguments["sparse"].shape for c in calls["sam_mask_decoder"]] == [(1, 2, 32)] * 2
    assert calls["sam_mask_decoder"][1].output.mask_logits.shape == (1, 4, 16, 16)
    assert calls[final][0].arguments["rotary_key"] is None, "arguments that were left out are there"


def test_answers_stay_the_same_and_hooks_are_gone(toy: SAM2, photo: np.ndarray) -> None:
    predictor = ImagePredictor(toy)
    before = predictor.predict(predictor.encode(photo), Prompt([[3, 4]])).raw
    with record_calls(toy, "*"):
        during = predictor.predict(predictor.encode(photo), Prompt([[3, 4]])).raw
    assert torch.equal(before, during) and hooks(toy) == 0
    with pytest.raises(RuntimeError), record_calls(toy, "*"):
        toy.encode_image(torch.zeros(1, 7, 64, 64))  # fails somewhere within the network
    with (
        pytest.raises(ValueError, match="no module 'memory_encodr'; near it: memory_encoder"),
        record_calls(toy, "image_encoder", "memory_encodr"),
    ):
        pass
    assert hooks(toy) == 0


@pytest.mark.parametrize("place", PLACES)
def test_attention_stays_in_the_window(model: SAM2, place: tuple[float, float], photo: np.ndarray) -> None:
    """Against windows whose cells carry their own numbers."""
    with record_calls(model, "image_encoder.trunk.blocks.*.attn") as calls:
        ImagePredictor(model).encode(photo)
    for reach, (name, found) in zip(block_reaches(model.config), calls.items(), strict=True):
        cells = model.config.side // reach.stride
        seen = block_attention(model, reach.block, found, place)
        assert seen.shape == (cells, cells)
        numbers = 1 + torch.arange(cells * cells).view(1, cells, cells, 1)  # 0 is what fills a window up
        windows, padded_hw = to_windows(numbers, reach.window) if reach.window else (numbers, (cells, cells))
        column, row = (min(int(u * cells), cells - 1) for u in place)
        mine = windows[(windows == numbers[0, row, column]).flatten(1).any(dim=1)]
        outside = ~torch.isin(numbers[0, :, :, 0], mine)
        assert (seen[outside] == 0).all() and (seen[~outside] > 0).all()
        assert seen.sum().item() == pytest.approx(1, abs=1e-5) if (mine > 0).all() else seen.sum() < 1
        if not model.get_submodule(name).pool:
            of_calls = [attention_weights(model.get_submodule(name), call).mean(dim=1) for call in found]
            everything = torch.cat(of_calls)  # [windows, L, S]
            edge = windows.shape[1]
            rows = from_windows(everything.unflatten(1, (edge, edge)), edge, padded_hw, (cells, cells))
            torch.testing.assert_close(seen[~outside], rows[0, row, column][mine.flatten() > 0])


def test_a_place_outside_is_refused(toy: SAM2) -> None:
    with pytest.raises(ValueError, match=r"within 0..1, got \(1.2, 0\)"):
        block_attention(toy, 0, [Call({}, None)], (1.2, 0))
