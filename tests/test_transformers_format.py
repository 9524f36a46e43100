"""Models for other people's code: the official file and transformers' folder, and back without losing a bit."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Sam2Model, Sam2VideoConfig, Sam2VideoModel

from sam2kit.checkpoints import MEMORY_PARTS, PICTURE_PARTS
from sam2kit.config import PRESETS, SAM2Config, preset
from sam2kit.model.positions import rotary_table, sine_map
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.transformers_format import to_official_names, to_transformers_names
from sam2kit.weights import load_model, save_official, save_transformers
from tests.golden_models import GOLDEN
from tests.test_weights import same
from tests.toy_model import TOY


@pytest.fixture
def wide_toy() -> SAM2:
    """A toy whose memories have 64 channels, the only number that transformers knows."""
    torch.manual_seed(0)
    model = SAM2(replace(TOY, side=128, hidden_dim=64, memory=replace(TOY.memory, dim=64))).eval()
    torch.nn.init.normal_(model.no_mem_embed)
    return model


def on_meta(config: SAM2Config) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return SAM2(config).state_dict()


@pytest.mark.parametrize("name", PRESETS)
def test_names_there_and_back(name: str) -> None:
    ours = on_meta(PRESETS[name])
    back = to_official_names(to_transformers_names(ours))
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in ours.items()}
    for key in ours:
        assert key.startswith(MEMORY_PARTS) != key.startswith(PICTURE_PARTS), key


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_their_names_are_what_transformers_has(version: str) -> None:
    dates = version == "2.1"
    config = Sam2VideoConfig(
        enable_temporal_pos_encoding_for_object_pointers=dates, enable_occlusion_spatial_embedding=dates
    )
    with torch.device("meta"):
        theirs = Sam2VideoModel(config).state_dict()
    ours = to_transformers_names(on_meta(preset(f"sam2{'.1' if dates else ''}-hiera-tiny")))
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


class TestOfficial:
    def test_exactly_the_published_weights(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        model = SAM2(preset("sam2.1-hiera-tiny"))
        content = torch.load(save_official(model, tmp_path / "deep" / "tiny.pt"), weights_only=True)["model"]
        published = json.loads((GOLDEN / "state_dict" / "tiny-2.1.json").read_text())
        assert {k: list(v.shape) for k, v in content.items()} == published
        assert all(torch.equal(content[k], v) for k, v in model.state_dict().items())
        assert {v.dtype for v in content.values()} == {torch.float32}

    def test_back_bit_for_bit_even_where_shapes_say_too_little(self, wide_toy: SAM2, tmp_path: Path) -> None:
        loaded = load_model(save_official(wide_toy, tmp_path / "toy.pt"), "cpu")
        assert same(loaded, wide_toy) and loaded.config == wide_toy.config

    def test_refusals(self, toy: SAM2, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"ends in \.pt"):
            save_official(toy, tmp_path / "toy.safetensors")
        toy.memory_is_trained = False
        with pytest.raises(ValueError, match="only knows pictures"):
            save_official(toy, tmp_path / "toy.pt")
        assert not list(tmp_path.iterdir())
        (tmp_path / "toy.pt").touch()
        with pytest.raises(ValueError, match="is a file"):
            save_transformers(toy, tmp_path / "toy.pt")


class TestTransformers:
    def test_pictures(self, wide_toy: SAM2, nano: SAM2, tmp_path: Path) -> None:
        wide_toy.memory_is_trained = False
        for model, name in ((wide_toy, "toy"), (nano, "nano")):
            folder = save_transformers(model, tmp_path / name)
            theirs, report = Sam2Model.from_pretrained(folder, output_loading_info=True)
            assert not report["missing_keys"] and not report["mismatched_keys"]
            plain = deepcopy(model)
            plain.sam_mask_decoder.judges_masks = False  # which they do not know
            assert_same_answers(plain, theirs.eval())
        assert not load_model(tmp_path / "toy", "cpu").memory_is_trained
        loaded = load_model(tmp_path / "nano", "cpu")
        assert same(loaded, nano) and loaded.config == nano.config, "nano is for pictures there and whole here"

    def test_videos(self, wide_toy: SAM2, tmp_path: Path) -> None:
        loaded = load_model(save_transformers(wide_toy, tmp_path), "cpu")
        assert same(loaded, wide_toy) and loaded.config == wide_toy.config and loaded.memory_is_trained
        theirs, report = Sam2VideoModel.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(report.values())
        theirs.eval()
        grid, dim = wide_toy.config.embedding_side, wide_toy.config.hidden_dim
        features, mask = torch.randn(1, dim, grid, grid), 10 * torch.randn(1, 1, 128, 128)
        memory, places = torch.randn(1, grid * grid + 2, 64), torch.randn(1, grid * grid + 2, 64)
        with torch.inference_mode():
            wanted, _ = theirs.memory_encoder(features, mask)
            torch.testing.assert_close(wide_toy.memory_encoder(features, mask), wanted, rtol=0, atol=1e-5)
            wanted = theirs.memory_attention(
                current_vision_features=features.flatten(2).permute(2, 0, 1),
                current_vision_position_embeddings=sine_map(grid, grid, dim).flatten(1).T[:, None],
                memory=memory.transpose(0, 1),
                memory_posision_embeddings=places.transpose(0, 1),
                num_object_pointer_tokens=2,
            )
            turns = rotary_table(grid, grid, dim)
            got = wide_toy.memory_attention(features, memory, places, map_rotary=turns, pointer_tokens=2)
        wanted = wanted.reshape(grid * grid, 1, dim).permute(1, 2, 0).unflatten(2, (grid, grid))
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)
        assert theirs.config.num_maskmem == wide_toy.config.memory.slots
        for kind in ("", "video_"):  # read only: the processors themselves want torchvision
            settings = json.loads((tmp_path / f"{kind}preprocessor_config.json").read_text())
            assert settings["size"] == {"height": 128, "width": 128}
            assert settings["image_mean"] == [0.485, 0.456, 0.406]


def assert_same_answers(ours: SAM2, theirs: Sam2Model) -> None:
    """The same masks and scores for the same click."""
    side = ours.config.side
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    points, labels = torch.tensor([[[side * 0.4, side * 0.6]]]), torch.tensor([[1]])
    with torch.inference_mode():
        features = ours.encode_image(pixels)
        image, embeddings = ours.without_memory(features.stride16), theirs.get_image_embeddings(pixels)
        torch.testing.assert_close(image, embeddings[-1], rtol=0, atol=1e-5)
        clicked = {"input_points": points[:, None], "input_labels": labels[:, None]}
        for multimask in (True, False):
            got = ours.segment(image, features, PromptTensors(points, labels), multimask=multimask)
            wanted = theirs(image_embeddings=embeddings, multimask_output=multimask, **clicked)
            torch.testing.assert_close(got.mask_logits, wanted.pred_masks[:, 0], rtol=0, atol=1e-4)
            torch.testing.assert_close(got.predicted_iou, wanted.iou_scores[:, 0], rtol=0, atol=1e-5)
