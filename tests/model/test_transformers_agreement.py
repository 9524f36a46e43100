"""transformers' own SAM 2 as an independent oracle: same weights, same prompts, same answers, through our loader."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    Sam2Config,
    Sam2Model,
    Sam2VideoConfig,
    Sam2VideoModel,
)
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from sam2kit.config import HieraConfig, RepViTConfig, preset
from sam2kit.model.positions import rotary_table, sine_map
from sam2kit.model.repvit import RepViT
from sam2kit.model.sam2 import SAM2, PromptTensors
from sam2kit.predict.geometry import frame_to_square
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.video import VideoPredictor
from sam2kit.transformers_format import official_name
from sam2kit.weights import load_model, save_transformers
from tests.golden import inputs, weights
from tests.golden_models import compare, golden_weights

SIZES = ["tiny", *(pytest.param(size, marks=pytest.mark.slow) for size in ("small", "base-plus", "large"))]
SIDE = 256  # of the square: sixteen times fewer pixels than 1024, and another side than the published one


def theirs(kind: type, config_kind: type, trunk: HieraConfig, **options: Any) -> torch.nn.Module:
    """A transformers model of a size, with made-up weights."""
    dims = [trunk.embed_dim << i for i in range(4)]
    config = config_kind(
        vision_config={
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": trunk.embed_dim,
                "num_attention_heads": trunk.heads,
                "blocks_per_stage": list(trunk.blocks_per_stage),
                "embed_dim_per_stage": dims,
                "num_attention_heads_per_stage": [trunk.heads << i for i in range(4)],
                "window_size_per_stage": list(trunk.window_per_stage),
                "global_attention_blocks": list(trunk.global_blocks),
                "window_positional_embedding_background_size": [trunk.position_grid] * 2,
                "image_size": [SIDE, SIDE],
            },
            "backbone_channel_list": dims[::-1],
            "backbone_feature_sizes": [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
        },
        prompt_encoder_config={"image_size": SIDE},
        **options,
    )
    model = kind(config).eval()
    model.load_state_dict({key: _made_up(key, tuple(value.shape)) for key, value in model.state_dict().items()})
    return model


def through_a_file(model: torch.nn.Module, folder: Path) -> SAM2:
    """Ours with the weights of one of theirs."""
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    return load_model(folder, "cpu", side=SIDE)


@pytest.fixture(scope="module", params=[pytest.param("2.0", marks=pytest.mark.slow), "2.1"])
def video_models(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, torch.nn.Module, SAM2]:
    """A version, their video model of it and ours."""
    is_2_1 = request.param == "2.1"
    oracle = theirs(
        Sam2VideoModel,
        Sam2VideoConfig,
        preset("sam2.1-hiera-tiny").trunk,
        image_size=SIDE,
        enable_temporal_pos_encoding_for_object_pointers=is_2_1,
        enable_occlusion_spatial_embedding=is_2_1,
        memory_attention_rope_feat_sizes=[SIDE // 16] * 2,
    )
    with torch.no_grad():
        oracle.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(6.0)  # present: else the masks say nothing
    ours = through_a_file(oracle, tmp_path_factory.mktemp("video"))
    assert ours.memory_is_trained
    assert ours.config.memory.dates_object_pointers == is_2_1
    return request.param, oracle, ours


class _OurTrunk(torch.nn.Module):
    """Ours as their trunk, which would be timm's; its names there are those of timm's."""

    def __init__(self) -> None:
        super().__init__()
        self._forward = (RepViT(RepViTConfig()),)  # in a tuple, so that its weights have one name
        self.timm_model = self._forward[0].body

    def forward(self, pixels: torch.Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self._forward[0](pixels), hidden_states=None)


@pytest.mark.slow
def test_edgetam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our export is strictly theirs, and every mask of two objects agrees, with memories of float32 as theirs are."""
    ours = SAM2(preset("edgetam", side=SIDE)).eval()
    ours.load_state_dict(golden_weights(ours))
    torch.nn.init.constant_(ours.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 6.0)
    save_transformers(ours, tmp_path)
    stated = json.loads((tmp_path / "config.json").read_text())
    assert stated["vision_config"].pop("backbone_config")["model_type"] == "timm_wrapper"
    build = AutoModel.from_config

    def built(config: Any, **options: Any) -> torch.nn.Module:
        return _OurTrunk() if config.model_type == "timm_wrapper" else build(config, **options)

    monkeypatch.setattr(AutoModel, "from_config", built)
    config = EdgeTamVideoConfig(**{k: v for k, v in stated.items() if k not in ("architectures", "model_type")})
    oracle = EdgeTamVideoModel(config).eval()
    oracle.load_state_dict(load_file(tmp_path / "model.safetensors"))
    again = load_model(tmp_path, "cpu")
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in again.state_dict().items())
    # one pixel of a prompted mask whose logit is 1e-5 from zero costs 3e-2; a wrong rule costs 0.5 and more
    _compare_tracking(oracle, again, EdgeTamVideoInferenceSession, 5e-2, memory_dtype=torch.float32)


def _made_up(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    if key == "prompt_encoder.point_embed.weight":
        rows = [weights.make(f"sam_prompt_encoder.point_embeddings.{i}.weight", (1, shape[1])) for i in range(4)]
        return torch.from_numpy(np.concatenate(rows))
    return torch.from_numpy(weights.make(official_name(key), shape))


@pytest.mark.parametrize("size", SIZES)
def test_image_model(size: str, tmp_path: Path) -> None:
    oracle = theirs(Sam2Model, Sam2Config, preset(f"sam2.1-hiera-{size}").trunk)
    ours = through_a_file(oracle, tmp_path)
    assert not ours.memory_is_trained, "Sam2Model has no memory"
    pixels = torch.from_numpy(inputs.scene(SIDE, SIDE)).permute(2, 0, 1)[None].float() / 128 - 1
    points = torch.tensor([[[65.0, 102.5], [150.0, 210.0]]])
    labels = torch.tensor([[1, 0]])
    with torch.inference_mode():
        features = ours.encode_image(pixels)
        image = ours.without_memory(features.stride16)
        embeddings = oracle.get_image_embeddings(pixels)
        compare(f"transformers {size}: image embedding", image, embeddings[-1].numpy(), 1e-4)
        for count, multimask in ((1, True), (2, False), (2, True)):
            prompts = PromptTensors(points[:, :count], labels[:, :count])
            answer = ours.segment(image, features, prompts, multimask=multimask)
            wanted = oracle(
                image_embeddings=embeddings,
                input_points=points[:, None, :count],
                input_labels=labels[:, None, :count],
                multimask_output=multimask,
            )
            compare(f"transformers {size}: mask logits", answer.mask_logits, wanted.pred_masks[:, 0].numpy(), 2e-4)
            compare(f"transformers {size}: predicted IoU", answer.predicted_iou, wanted.iou_scores[:, 0].numpy(), 1e-5)


def test_memory_modules(video_models: tuple[str, torch.nn.Module, SAM2]) -> None:
    """The video model's layout loads strictly, and its memory encoder and attention agree with ours."""
    version, oracle, ours = video_models
    random = np.random.default_rng(0)
    grid = SIDE // 16

    def noise(*shape: int) -> torch.Tensor:
        return torch.from_numpy(random.standard_normal(shape).astype(np.float32))

    features, mask = noise(1, 256, grid, grid), 10 * noise(1, 1, SIDE, SIDE)
    memory, places = noise(1, 2 * grid * grid + 8, 64), noise(1, 2 * grid * grid + 8, 64)
    with torch.inference_mode():
        wanted, _ = oracle.memory_encoder(features, mask)
        compare(f"transformers {version}: memory", ours.memory_encoder(features, mask), wanted.numpy(), 1e-4)
        sequence = features.flatten(2).permute(2, 0, 1)
        wanted = oracle.memory_attention(
            current_vision_features=sequence,
            current_vision_position_embeddings=sine_map(grid, grid, 256).flatten(1).T[:, None],
            memory=memory.transpose(0, 1),
            memory_posision_embeddings=places.transpose(0, 1),
            num_object_pointer_tokens=8,
        )
        turns = rotary_table(grid, grid, 256)
        got = ours.memory_attention(features, memory, places, map_rotary=turns, pointer_tokens=8)
        wanted = wanted.reshape(grid * grid, 1, 256).permute(1, 2, 0).unflatten(2, (grid, grid))
        compare(f"transformers {version}: conditioned features", got, wanted.numpy(), 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("video_models", ["2.1"], indirect=True)
def test_video_model(video_models: tuple[str, torch.nn.Module, SAM2]) -> None:
    """Two objects, a click and a box, tracked forwards and back: every low-res mask agrees."""
    _, oracle, ours = video_models
    _compare_tracking(oracle, ours, Sam2VideoInferenceSession, 2e-2)  # bfloat16


def _compare_tracking(oracle: torch.nn.Module, ours: SAM2, kind: type, limit: float, **options: Any) -> None:
    frames = 6
    clip = np.stack([inputs.scene(SIDE, SIDE, t) for t in range(frames)])
    clicks, box = torch.tensor([[130.0, 105.0], [60.0, 220.0]]), torch.tensor([[150.0, 64.0], [208.0, 170.0]])
    squares = torch.stack([frame_to_square(f, SIDE) for f in clip])
    theirs_session = kind(squares, SIDE, SIDE, dtype=torch.float32)
    for object_id, points, labels in ((1, clicks, [1, 0]), (2, box, [2, 3])):
        index = theirs_session.obj_id_to_idx(object_id)
        prompt = {"point_coords": points[None, None], "point_labels": torch.tensor([[labels]], dtype=torch.int32)}
        theirs_session.add_point_inputs(index, 2, prompt)
    theirs_session.obj_with_new_inputs = [1, 2]
    oracle(theirs_session, frame_idx=2)

    predictor = VideoPredictor(ours, VideoOptions(exact_logits=True, max_hole_area=0, **options))
    session = predictor.open(clip)
    predictor.add_points(session, 2, 1, clicks.numpy(), [1, 0])
    predictor.add_box(session, 2, 2, box.flatten().numpy())
    for reverse in (False, True):
        wanted = {
            out.frame_idx: out.pred_masks[:, 0]
            for out in oracle.propagate_in_video_iterator(theirs_session, start_frame_idx=2, reverse=reverse)
        }
        got = {
            m.frame_index: m.low_res[:, 0]
            for m in predictor.propagate(session, 2, "backward" if reverse else "forward")
        }
        assert set(got) == set(wanted) == set(range(3) if reverse else range(2, frames))
        for frame, logits in got.items():
            compare(f"{kind.__name__}: mask logits", logits, wanted[frame].numpy(), limit)
