"""LoRA: what is added, what learns, and that saved and merged models are the trained one."""

from __future__ import annotations

import builtins
from pathlib import Path

import pytest
import torch

from sam2kit.finetuned import FineTuning, save_finetuned
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.training.trained_parameters import TRUNK_LINEAR, add_lora, lora_pairs, merge_lora, plain_state
from sam2kit.weights import load_model, save_model, save_official
from tests.test_weights import same

EVERYTHING = ("*",)
BLOCK = "image_encoder.trunk.blocks.0.attn.qkv"


def with_lora(model: SAM2, targets: tuple[str, ...] = TRUNK_LINEAR) -> SAM2:
    """A model whose additions are no longer zero."""
    torch.manual_seed(0)
    add_lora(model, rank=4, alpha=8, targets=targets)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_B." in name:
                weight.normal_(0, 0.02)
    return model


def low_res_masks(model: SAM2) -> torch.Tensor:
    side = model.config.side
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    click = PromptTensors(torch.full((1, 1, 2), side / 2), torch.ones(1, 1))
    with torch.inference_mode():
        features = model.encode_image(pixels)
        return model.segment(model.without_memory(features.stride16), features, click, multimask=True).mask_logits


def assert_same_layer(theirs: torch.nn.Module, ours: torch.nn.Module) -> None:
    """peft's layer and ours give the same, to the rounding of float32."""
    shape = (3, ours.in_features) if isinstance(ours, torch.nn.Linear) else (1, ours.in_channels, 16, 16)
    x = torch.randn(shape)
    with torch.inference_mode():
        wanted, got = theirs(x), ours(x)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()))


def test_at_first_nothing_changes_and_only_the_additions_learn(toy: SAM2) -> None:
    before, state = low_res_masks(toy), {k: v.clone() for k, v in toy.state_dict().items()}
    toy.image_encoder.requires_grad_(False)
    toy.eval()
    add_lora(toy, rank=2, alpha=4)
    torch.testing.assert_close(low_res_masks(toy), before, rtol=0, atol=0)
    plain = plain_state(toy)
    assert plain.keys() == state.keys() and all(torch.equal(plain[k], state[k]) for k in state)
    assert all(name in state for name in lora_pairs(toy))
    learns = {name for name, p in toy.named_parameters() if p.requires_grad}
    additions = {name: p for name, p in toy.named_parameters() if ".lora_" in name}
    assert {n for n in learns if n.startswith("image_encoder.")} == additions.keys()
    assert "sam_mask_decoder.iou_token.weight" in learns
    assert not any(m.training for m in toy.modules())
    with_gradient = with_lora(SAM2(toy.config))
    with_gradient.encode_image(torch.rand(1, 3, 64, 64)).stride16.square().sum().backward()
    pairs = [p for n, p in with_gradient.named_parameters() if ".lora_" in n]
    assert len(pairs) == 2 * len(lora_pairs(with_gradient)) == len(additions)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pairs)


@pytest.mark.parametrize("targets", [TRUNK_LINEAR, EVERYTHING])
def test_saved_and_loaded_is_the_trained_model(targets: tuple[str, ...], tmp_path: Path, nano: SAM2) -> None:
    trained = with_lora(load_model("nano", "cpu"), targets)
    with torch.no_grad():
        trained.sam_mask_decoder.iou_token.weight.add_(0.5)
    wanted, about = low_res_masks(trained), FineTuning("nano")
    state, pairs = plain_state(trained), lora_pairs(trained)
    save_finetuned(tmp_path, state, nano.state_dict(), about, pairs, config=trained.config)
    assert (tmp_path / "finetuned.safetensors").stat().st_size < 1e6
    loaded = load_model(tmp_path, "cpu")
    for name in pairs:
        assert_same_layer(*(m.get_submodule(name.removesuffix(".weight")) for m in (trained, loaded)))
    scale = wanted.abs().max()
    torch.testing.assert_close(low_res_masks(loaded) / scale, wanted / scale, rtol=0, atol=1e-5)  # of many layers
    assert (low_res_masks(nano) - wanted).abs().max() > 1e-2 * scale
    merge_lora(trained)
    assert same(trained, loaded), "merging and loading add in the same way"


@pytest.mark.slow
def test_merging_leaves_a_plain_model(toy: SAM2, tmp_path: Path) -> None:
    kinds = {name: type(m) for name, m in toy.named_modules()}
    with_lora(toy, EVERYTHING)
    base = plain_state(toy)
    shared = {k: v.clone() for k, v in base.items()}
    for save in (save_model, save_official):
        with pytest.raises(ValueError, match=r"merge_lora\(model\)"):
            save(toy, tmp_path / "toy.pt")
    with pytest.raises(ValueError, match=r"plain_state\(model\)"):
        save_finetuned(tmp_path, toy, shared, FineTuning("toy"))
    merge_lora(toy)
    assert {name: type(m) for name, m in toy.named_modules()} == kinds
    assert not lora_pairs(toy) and not hasattr(toy, "peft_config")
    assert all(torch.equal(base[k], shared[k]) for k in base), "what others hold is not changed under their hands"
    assert same(load_model(save_model(toy, tmp_path / "toy.safetensors"), "cpu"), toy)
    add_lora(toy, rank=2, alpha=4, targets=(BLOCK,))
    assert not toy.get_parameter(BLOCK + ".base_layer.weight").requires_grad
    assert list(lora_pairs(toy)) == [BLOCK + ".weight"]


def test_what_cannot_be(toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"rank": 2, "alpha": 4.0}
    for bad in ({"rank": 0}, {"alpha": 0}):
        with pytest.raises(ValueError, match="LoRA wants a rank of at least 1"):
            add_lora(toy, **(good | bad))
    with pytest.raises(ValueError, match="no linear layer or convolution has a name like"):
        add_lora(toy, **good, targets=("decoder.*",))
    real = builtins.__import__

    def without(name: str, *rest: object, **options: object) -> object:
        if name == "peft":
            raise ImportError("No module named 'peft'")
        return real(name, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "__import__", without)
        with pytest.raises(ValueError, match=r"LoRA needs peft.*sam2kit\[train\]"):
            add_lora(toy, **good)
    add_lora(toy, **good)
    with pytest.raises(ValueError, match="already"):
        add_lora(toy, **good)
