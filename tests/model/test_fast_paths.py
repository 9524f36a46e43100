"""Every quick way to compute gives what the plain way gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import sam2kit.model.attention as attention
import sam2kit.model.hiera as hiera
import sam2kit.model.sam2 as sam2
from sam2kit.config import preset
from sam2kit.model.attention import Attention, attend
from sam2kit.model.hiera import Hiera
from sam2kit.model.memory_bank import Memories
from sam2kit.model.sam2 import SAM2, PromptTensors
from tests.toy_model import TOY


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plainly(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (t.double() for t in (query, key, value))
    return (query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(dim=-1) @ value


@pytest.fixture(params=["as it is", "in rows", "in small pieces", "by the fused kernel"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Lets small tensors go the ways of large ones."""
    weights, rows, keys = {
        "as it is": (attention._WEIGHTS, attention._ROWS, attention._MANY_KEYS),
        "in rows": (0, 7, 0),
        "in small pieces": (2 * 3 * 20 * 30, 7, 0),
        "by the fused kernel": (0, 7, 10_000),
    }[request.param]
    monkeypatch.setattr(attention, "_WEIGHTS", weights)
    monkeypatch.setattr(attention, "_ROWS", rows)
    monkeypatch.setattr(attention, "_MANY_KEYS", keys)
    return request.param


class TestAttend:
    @pytest.mark.parametrize("keys", [30, 9])
    @torch.inference_mode()
    def test_all_ways_agree(self, way: str, keys: int) -> None:
        for queries, batch in ((5, 5), (1, 5), (5, 1)):
            query, key, value = noise(queries, 3, 20, 8), noise(batch, 3, keys, 8, seed=1), noise(batch, 3, keys, 8)
            got = attend(query, key, value)
            assert got.shape == (5, 3, 20, 8) and got.dtype == torch.float32
            torch.testing.assert_close(got.double(), plainly(query, key, value), atol=2e-6, rtol=1e-5)
        query, key, value = (t.bfloat16() for t in (query, key, value))
        got = attend(query, key, value)
        assert got.dtype == torch.bfloat16
        torch.testing.assert_close(got.double(), plainly(query, key, value), atol=0.03, rtol=0.03)

    @pytest.mark.parametrize("keys", [30, 9])
    def test_gradients(self, way: str, keys: int) -> None:
        tensors = [noise(2, 3, 20, 8), noise(2, 3, keys, 8, seed=1), noise(2, 3, keys, 8, seed=2)]
        ours, theirs = ([t.clone().requires_grad_() for t in tensors] for _ in range(2))
        attend(*ours).square().sum().backward()
        plainly(*theirs).square().sum().backward()
        for mine, wanted in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine.grad, wanted.grad, atol=1e-4, rtol=1e-4)

    @torch.inference_mode()
    def test_values_may_be_narrow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        query, key, value = noise(2, 1, 20, 8), noise(2, 1, 30, 8, seed=1), noise(2, 1, 30, 3)
        wanted = plainly(query, key, value)
        torch.testing.assert_close(attend(query, key, value).double(), wanted, atol=2e-6, rtol=1e-5)
        monkeypatch.setattr(attention, "_WEIGHTS", 0)
        monkeypatch.setattr(attention, "_MANY_KEYS", 0)
        torch.testing.assert_close(attend(query, key, value).double(), wanted, atol=2e-6, rtol=1e-5)


@torch.inference_mode()
def test_values_are_projected_late_where_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = Attention(32, heads=1, key_dim=8).eval()
    torch.nn.init.normal_(layer.v_proj.bias)
    query, memory = noise(1, 12, 32), noise(3, 40, 8)
    assert not layer._projects_late(memory, memory.dtype)
    wanted = layer(query, memory, memory)
    monkeypatch.setattr(attention, "_MANY_KEYS", 39)
    assert layer._projects_late(memory, memory.dtype)
    torch.testing.assert_close(layer(query, memory, memory), wanted, atol=1e-6, rtol=1e-5)
    assert not Attention(32, heads=1)._projects_late(noise(1, 40, 32), memory.dtype), "as wide as the keys"
    assert not Attention(32, heads=2, key_dim=8)._projects_late(memory, memory.dtype)
    for quicker in (True, False):  # a GPU has tried both
        monkeypatch.setattr(attention, "_tried", lambda device, dtype, quicker=quicker: quicker)
        assert layer._projects_late(memory.to("meta"), memory.dtype) is quicker


@torch.inference_mode()
def test_apples_gpus_get_few_weights_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = noise(5, 2, 12, 8), noise(5, 2, 40, 8), noise(5, 2, 40, 8)
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    largest, plain = [], torch.nn.functional.scaled_dot_product_attention

    def noted(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        largest.append(query[..., 0].numel() * key.shape[2])
        return plain(query, key, value)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    for most in (2**28, 2 * 12 * 2 * 40, 12 * 2 * 40, 5 * 2 * 40, 80):
        monkeypatch.setattr(attention, "_APPLE_WEIGHTS", most)
        torch.testing.assert_close(attention._attend_on_apple(query, key, value), wanted, atol=1e-6, rtol=1e-5)
        assert max(largest) <= most
        largest.clear()


@pytest.mark.parametrize(
    "name", ["nano", *(pytest.param(f"sam2.1-hiera-{size}", marks=pytest.mark.slow) for size in ("tiny", "base-plus"))]
)
@pytest.mark.parametrize("side", [256, 320])  # at the second one, windows reach over the border
@torch.inference_mode()
def test_blocks_run_window_by_window(name: str, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    trunk = Hiera(preset(name).trunk).eval()
    pixels = noise(2, 3, side, side)
    monkeypatch.setattr(hiera, "_TOKENS", 200)
    got = trunk(pixels)
    assert trunk._end_of_run(0, (side // 4, side // 4)) > 1, "there is something to run together"
    monkeypatch.setattr(Hiera, "_end_of_run", lambda self, first, size_hw: first)
    for mine, wanted in zip(got, trunk(pixels), strict=True):
        torch.testing.assert_close(mine, wanted, atol=2e-5, rtol=1e-4)


def test_training_drops_whole_samples() -> None:
    """Stochastic depth is about samples, so that training does not cut them into windows."""
    trunk = Hiera(TOY.trunk, drop_path=0.5).train()
    trunk._in_windows = None  # is not called
    trunk(noise(1, 3, 64, 64))


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("kind", ["clicks on one picture", "clicks with masks", "pictures of their own", "nothing"])
@torch.inference_mode()
def test_prompts_are_decoded_some_at_a_time(
    toy: SAM2, kind: str, multimask: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 1 if kind in ("clicks on one picture", "clicks with masks") else 5
    features = toy.encode_image(noise(count, 3, toy.config.side, toy.config.side))
    image = toy.without_memory(features.stride16)
    points, labels = 20 * noise(5, 2, 2).abs(), torch.ones(5, 2, dtype=torch.int64)
    masks = noise(5, 1, toy.config.low_res_side, toy.config.low_res_side) if kind == "clicks with masks" else None
    prompts = PromptTensors() if kind == "nothing" else PromptTensors(points, labels, masks)
    monkeypatch.setattr(sam2, "_PROMPTS", 2)
    got = toy.segment(image, features, prompts, multimask=multimask)
    monkeypatch.setattr(sam2, "_PROMPTS", 99)
    wanted = toy.segment(image, features, prompts, multimask=multimask)
    assert len(got.mask_logits) == 5
    for name, value in vars(got).items():
        torch.testing.assert_close(value, getattr(wanted, name), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_objects_share_what_the_frame_sees_in_itself(toy: SAM2) -> None:
    """One frame for all objects, or the same frame once for each."""
    features = toy.encode_image(noise(1, 3, toy.config.side, toy.config.side))
    grid = toy.config.embedding_side
    maps = [(noise(3, toy.config.memory.dim, grid, grid, seed=i), i) for i in range(2)]
    pointers = [(noise(3, toy.config.hidden_dim), 1)]
    memories = Memories.of(maps, pointers, dim=toy.config.hidden_dim, pointer_frames=4)
    together = toy.recall(features.stride16, memories)
    each = toy.recall(features.stride16.expand(3, -1, -1, -1), memories)
    torch.testing.assert_close(together, each, atol=1e-5, rtol=1e-4)
    assert len(toy.answer(together, features).mask_logits) == 3
