"""EfficientTAM and EdgeTAM take part in everything that SAM 2 does: files, sessions, streams, fine-tuning, export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sam2kit.checkpoints import read_weights
from sam2kit.config import PRESETS, RepViTConfig, SAM2Config, ViTConfig, preset
from sam2kit.hub import HubSource, hub_source, licence
from sam2kit.model.repvit import ConvNorm, PlaceMixer, RepViT
from sam2kit.model.sam2 import SAM2
from sam2kit.notebook.activations import block_reaches
from sam2kit.notebook.attention_maps import memory_attention_maps
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.video import VideoPredictor
from sam2kit.training.finetune import finetune
from sam2kit.training.trained_parameters import add_lora, layer_decay, merge_lora
from sam2kit.weights import load_model, save_model, save_official
from tests.loopback_hub import LoopbackHub
from tests.predict.conftest import with_strong_answers
from tests.toy_model import TOY
from tests.training.conftest import clips, pictures  # noqa: F401 - fixtures

KINDS = {
    "efficienttam": replace(
        TOY, trunk=ViTConfig(16, 2, blocks=3, window=3), decoder=replace(TOY.decoder, takes_detail=False),
        memory=replace(TOY.memory, marks_absent_objects=False, dates_object_pointers=False, pooled="scores"),
    ),
    "edgetam": replace(
        TOY, trunk=RepViTConfig(8, (1, 1, 2, 1)),
        memory=replace(TOY.memory, marks_absent_objects=False, dates_object_pointers=False, latents_edge=2),
    ),
}  # fmt: skip


def relative(kind: str) -> SAM2:
    torch.manual_seed(0)
    model = SAM2(KINDS[kind])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return with_strong_answers(model.eval())


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> SAM2:
    return relative(request.param)


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (6, 48, 64, 3), np.uint8)


def masks_of(predictor: VideoPredictor, session: object) -> np.ndarray:
    return np.stack([answer.logits.numpy() for answer in predictor.propagate(session)])


class TestTracking:
    def test_a_saved_session_goes_on_as_an_uninterrupted_one(
        self, model: SAM2, clip: np.ndarray, tmp_path: Path
    ) -> None:
        predictor = VideoPredictor(model, VideoOptions(memory_dtype=torch.float32, exact_logits=True))
        session = predictor.open(clip)
        predictor.add_points(session, 0, 1, [[20, 20]], [1])
        predictor.add_box(session, 0, 2, [30, 10, 60, 40])
        for _ in zip(range(3), predictor.propagate(session), strict=False):
            pass
        predictor.save(session, tmp_path / "half.sam2kit")
        opened = predictor.load(tmp_path / "half.sam2kit", clip)
        np.testing.assert_allclose(masks_of(predictor, opened), masks_of(predictor, session), atol=1e-5)
        shape = session.object(1).memories[1].shape
        assert tuple(shape) == model.config.memory_shape

    def test_a_correction_changes_what_follows_and_objects_do_not_depend_on_each_other(
        self, model: SAM2, clip: np.ndarray
    ) -> None:
        predictor = VideoPredictor(model)
        both, alone = predictor.open(clip), predictor.open(clip)
        for session in (both, alone):
            predictor.add_points(session, 0, 1, [[20, 20]], [1])
        predictor.add_points(both, 0, 2, [[50, 30]], [1])
        together, one = masks_of(predictor, both)[:, 0], masks_of(predictor, alone)[:, 0]
        np.testing.assert_allclose(together, one, atol=0.1)  # memories of bfloat16
        predictor.add_points(alone, 3, 1, [[5, 5]], [0])
        assert not np.allclose(masks_of(predictor, alone)[4:, 0], one[4:], atol=0.1)

    def test_a_stream_is_the_same(self, model: SAM2, clip: np.ndarray) -> None:
        predictor = VideoPredictor(model)
        session, stream = predictor.open(clip), predictor.stream(length=len(clip))
        predictor.add_points(session, 0, 1, [[20, 20]], [1])
        stream.push(clip[0])
        stream.add_points(1, [[20, 20]], [1])
        for answer in list(predictor.propagate(session))[1:]:
            np.testing.assert_array_equal(stream.push(clip[answer.frame_index]).masks, answer.masks)


class TestFiles:
    def test_official_files_are_told_from_their_keys(self, tmp_path: Path) -> None:
        files = {
            "efficienttam_ti_512x512.pt": "efficienttam-ti-512",
            "efficienttam_ti_2.pt": "efficienttam-ti-2",
            "efficienttam_ti.pt": "efficienttam-ti",
            "edgetam.pt": "edgetam",
        }
        states = {name: SAM2(PRESETS[name]).state_dict() for name in ("efficienttam-ti", "edgetam")}
        for filename, name in files.items():
            state = states["edgetam" if name == "edgetam" else "efficienttam-ti"]
            torch.save({"model": state}, tmp_path / filename)
            assert load_model(tmp_path / filename, "cpu").config == PRESETS[name]
        torch.save({"model": states["efficienttam-ti"], "epoch": 3}, tmp_path / "mine.pt")
        with pytest.warns(UserWarning, match="does not say which efficienttam-ti it is.*side=512"):
            assert load_model(tmp_path / "mine.pt", "cpu", side=512).config == PRESETS["efficienttam-ti-512"]
        # a trainer of several GPUs, in half precision, without the batch norms' counters
        half = {f"module.{k}": v.half() for k, v in states["edgetam"].items() if not k.endswith("tracked")}
        torch.save({"model": half, "optimizer": {}, "epoch": 1}, tmp_path / "last.pt")
        loaded = load_model(tmp_path / "last.pt", "cpu").state_dict()
        assert all(torch.equal(v, states["edgetam"][k].to(v.dtype).half().to(v.dtype)) for k, v in loaded.items())

    def test_there_and_back(self, model: SAM2, tmp_path: Path) -> None:
        save_model(model, tmp_path / "own.safetensors", dtype=torch.float16)
        save_official(model, tmp_path / "official.pt")
        counters = {k: v for k, v in load_file(tmp_path / "own.safetensors").items() if k.endswith("tracked")}
        assert all(v.dtype == torch.int64 for v in counters.values())
        for name, exact in (("own.safetensors", False), ("official.pt", True)):
            again = load_model(tmp_path / name, "cpu")
            assert again.config == model.config
            for key, value in again.state_dict().items():
                assert torch.equal(value, model.state_dict()[key]) or not exact
        bare = {k: v for k, v in model.state_dict().items() if not k.startswith("spatial")}
        save_file(bare, tmp_path / "bare.safetensors")
        with pytest.raises(ValueError, match=r"not a SAM 2 model|unknown size"):
            read_weights(tmp_path / "bare.safetensors", "bare")

    def test_another_side_needs_a_window_for_each_latent(self) -> None:
        assert preset("edgetam", side=512).memory_shape == (64, 32, 16)
        with pytest.raises(ValueError, match="multiple of 256"):
            preset("edgetam", side=384)
        with pytest.raises(ValueError, match="update sam2kit"):
            SAM2Config.from_dict({"trunk": {"kind": "mamba"}})


class TestHub:
    def test_where_models_are(self) -> None:
        assert hub_source("edgetam") == HubSource("facebook/EdgeTAM", "edgetam.pt")
        for name, filename in (("ti", "ti"), ("s-512", "s_512x512"), ("ti-1", "ti_1"), ("s-2", "s_2")):
            repo = "yunyangx/efficient-track-anything"
            assert hub_source(f"efficienttam-{name}") == HubSource(repo, f"efficienttam_{filename}.pt")
        named = hub_source("wanglab/MedSAM2:sub/MedSAM2_latest.pt")
        assert named == HubSource("wanglab/MedSAM2", "sub/MedSAM2_latest.pt")
        assert hub_source("./a/b:c.pt") is None and hub_source("nano") is None
        assert (
            licence("wanglab/MedSAM2:x.pt") == "cc-by-sa-4.0" and licence("edgetam") == licence("nano") == "apache-2.0"
        )
        assert licence("somebody/something") is None

    def test_files_of_a_repo_that_holds_several(self, hub: LoopbackHub, tmp_path: Path) -> None:
        torch.manual_seed(0)
        tiny = SAM2(preset("sam2.1-hiera-tiny"))
        torch.save({"model": tiny.state_dict()}, tmp_path / "x.pt")
        content = (tmp_path / "x.pt").read_bytes()
        hub.repos["wanglab/MedSAM2"] = {"MedSAM2_latest.pt": content, "MedSAM2_2411.pt": content}
        loaded = load_model("wanglab/MedSAM2:MedSAM2_latest.pt", "cpu")
        assert loaded.config == preset("sam2.1-hiera-tiny", side=512), "the side that it was trained at"
        torch.save({"model": SAM2(preset("efficienttam-ti")).state_dict()}, tmp_path / "y.pt")
        hub.repos["yunyangx/efficient-track-anything"] = {
            f"efficienttam_ti{kind}.pt": (tmp_path / "y.pt").read_bytes() for kind in ("", "_1", "_512x512")
        }
        assert load_model("efficienttam-ti-512", "cpu").config.side == 512
        assert load_model("efficienttam-ti-1", "cpu").config.memory.pooled == "scores"
        with pytest.raises(RuntimeError, match=r"has no file 'MedSAM2\.pt'.*right name"):
            load_model("wanglab/MedSAM2:MedSAM2.pt", "cpu")
        with pytest.raises(RuntimeError, match=r"2 weight files.*name one of them, such as wanglab/MedSAM2:MedSAM2"):
            load_model("wanglab/MedSAM2", "cpu")
        hub.stop()
        assert load_model("wanglab/MedSAM2:MedSAM2_latest.pt", "cpu").config.side == 512, "from the cache"


class TestBatchNorms:
    def test_folded_they_are_the_same(self) -> None:
        model, x = relative("edgetam"), torch.randn(2, 8, 12, 12)
        folded = [m for m in model.modules() if isinstance(m, ConvNorm)]
        assert len(folded) > 20
        for m in folded:
            x = torch.randn(2, m.c.weight.shape[1] * m.c.groups, 12, 12)
            torch.testing.assert_close(m(x), m.bn(m.c(x)), atol=1e-5, rtol=1e-5)
        mixer = next(m for m in model.modules() if isinstance(m, PlaceMixer))
        x = torch.randn(2, 8, 12, 12)
        torch.testing.assert_close(mixer(x), mixer.conv(x) + mixer.conv1(x) + x, atol=1e-5, rtol=1e-5)

    def test_training_moves_weights_and_no_statistics(self) -> None:
        trunk = relative("edgetam").image_encoder.trunk
        assert isinstance(trunk, RepViT)
        before = {k: v.clone() for k, v in trunk.state_dict().items()}
        with torch.inference_mode():
            expected = trunk(torch.ones(1, 3, 64, 64))[-1].clone()
        trunk.train()
        torch.testing.assert_close(trunk(torch.ones(1, 3, 64, 64))[-1], expected, atol=1e-5, rtol=1e-5)
        optimizer = torch.optim.SGD(trunk.parameters(), lr=0.1)
        sum(m.square().mean() for m in trunk(torch.ones(1, 3, 64, 64))).backward()
        optimizer.step()
        changed = {k for k, v in trunk.state_dict().items() if not torch.equal(v, before[k])}
        assert any(k.endswith("bn.weight") for k in changed) and any(k.endswith("c.weight") for k in changed)
        assert not any("running" in k or "tracked" in k for k in changed)
        assert not torch.allclose(trunk(torch.ones(1, 3, 64, 64))[-1], expected), "what was folded is folded anew"

    def test_lora_on_convolutions(self) -> None:
        model, pixels = relative("edgetam"), torch.randn(1, 3, 64, 64)
        before = model.encode_image(pixels).stride16
        add_lora(model, rank=2, alpha=4)
        torch.testing.assert_close(model.encode_image(pixels).stride16, before, atol=1e-5, rtol=1e-5)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(0, 0.1)
        tuned = model.encode_image(pixels).stride16
        assert not torch.allclose(tuned, before)
        merge_lora(model)
        torch.testing.assert_close(model.encode_image(pixels).stride16, tuned, atol=1e-4, rtol=1e-4)

    def test_layer_decay_counts_blocks_over_all_stages(self) -> None:
        share = layer_decay(preset("edgetam"), 0.5, 1.0)
        body = "image_encoder.trunk.body."
        assert share(body + "stages_3.blocks.1.se.fc1.weight") == 0.5
        assert share(body + "stages_3.downsample.ffn.conv1.c.weight") == 0.5**3
        assert share(body + "stages_0.blocks.0.se.fc1.weight") == 0.5**20
        assert share(body + "stem.conv1.c.weight") == 0.5**21
        assert share("image_encoder.neck.convs.0.conv.weight") == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["decoder", "lora", "memory"])
def test_fine_tuning(model: SAM2, recipe: str, pictures: Path, clips: Path, tmp_path: Path) -> None:  # noqa: F811
    base = save_model(model, tmp_path / "base.safetensors")
    data = clips if recipe == "memory" else pictures
    how = {"frames": 4, "held_out": 0.5} if recipe == "memory" else {}
    finetune(
        base, data, recipe, out=tmp_path / "out", epochs=1, rate=1e-3, corrections=1, forgetting_check=False,
        pictures=0, **how,
    )  # fmt: skip
    before, tuned = model.state_dict(), load_model(tmp_path / "out", "cpu")
    assert replace(tuned.config, classes=()) == model.config
    after = tuned.state_dict()
    changed = {k for k, v in before.items() if not torch.equal(v, after[k])}
    wanted = {"decoder": "sam_mask_decoder.", "lora": "image_encoder.trunk.", "memory": "memory_encoder."}[recipe]
    assert any(name.startswith(wanted) for name in changed)
    assert not any("running" in name or "tracked" in name for name in changed)
    if recipe == "memory" and model.config.memory.latents_edge:
        assert any(name.startswith("spatial_perceiver.") for name in changed)


class TestActivations:
    def test_what_blocks_see(self) -> None:
        reaches = block_reaches(preset("efficienttam-ti-512"))
        assert [(r.stride, r.window, r.reach) for r in reaches[:3]] == [(16, 14, 224), (16, 14, 224), (16, 0, 512)]
        with pytest.raises(ValueError, match="made of convolutions"):
            block_reaches(preset("edgetam"))

    def test_what_memories_are_looked_at(self, model: SAM2, clip: np.ndarray) -> None:
        predictor = VideoPredictor(model)
        session = predictor.open(clip)
        predictor.add_points(session, 0, 1, [[20, 20]], [1])
        masks_of(predictor, session)
        if model.config.memory.pooled:
            with pytest.raises(ValueError, match="2x2 places"):
                memory_attention_maps(predictor, session, 3, 1, [[20, 20]])
            return
        seen = memory_attention_maps(predictor, session, 3, 1, [[20, 20]])
        assert seen.maps.shape[-2:] == model.config.memory_shape[1:]
        total = seen.maps.sum(dim=(-3, -2, -1)) + seen.pointers.sum(dim=-1)
        torch.testing.assert_close(total, torch.ones_like(total), atol=1e-4, rtol=0)
