"""EfficientTAM and EdgeTAM against golden vectors of their official code: pictures, and tracking step by step."""

from __future__ import annotations

import gc
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor

from sam2kit.config import preset
from sam2kit.model.positions import sine_map
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.prompts import Prompt
from tests.golden import inputs
from tests.golden_models import GOLDEN, compare, golden_weights
from tests.model.test_video_golden import BFLOAT16, BOX, SIZE_HW, Scenario

PICTURES = [
    ("efficienttam-ti-512", "efficienttam_ti_512x512"),
    *(
        pytest.param(*pair, marks=pytest.mark.slow)
        for pair in (
            ("efficienttam-ti", "efficienttam_ti"),
            ("efficienttam-s-512", "efficienttam_s_512x512"),
            ("edgetam", "edgetam"),
        )
    ),
]
CLICK, TWO, BOXED = ([[160, 170]], [1]), ([[160, 170], [420.5, 120.25]], [1, 0]), [400, 106, 528, 277]
CASES = {  # name: (points and labels, box, uses click_multi's best mask)
    "click_multi": (CLICK, None, False),
    "click_single": (CLICK, None, False),
    "two_clicks": (TWO, None, False),
    "box": ((None, None), BOXED, False),
    "box_click": (([[450, 200]], [1]), BOXED, False),
    "mask_click": (([[160, 170], [300, 60]], [1, 0]), None, True),
    "mask_only": ((None, None), None, True),
}


def golden_relative(name: str, *, side: int | None = None) -> SAM2:
    model = SAM2(preset(name, side=side)).eval()
    model.load_state_dict(golden_weights(model))
    return model


def sample(maps: Tensor, channels: int, places: int) -> Tensor:
    """Some channels and places of the first [C, H, W] map."""
    step_c, step_y, step_x = max(1, maps.shape[1] // channels), *(n // places for n in maps.shape[2:])
    return maps[0, ::step_c, 1::step_y, 2::step_x]


@pytest.mark.parametrize(("name", "file"), PICTURES)
def test_pictures(name: str, file: str) -> None:
    golden, model = np.load(GOLDEN / f"image-{file}.npz"), golden_relative(name)
    tokens = model.config.embedding_side
    predictor, maps = ImagePredictor(model), []
    hook = model.image_encoder.trunk.register_forward_hook(lambda _, given, out: maps.extend([given[0], *out]))
    embedding = predictor.encode(inputs.image())
    hook.remove()
    pixels, *stages = maps
    step = model.config.side // 16
    compare(f"{name}: input", pixels[0, :, 3::step, 5::step], golden["input"], 1e-6)
    for i, stage in enumerate(stages):
        compare(f"{name}: trunk", sample(stage, 24, 8), golden[f"trunk{i}"], 5e-5)
    compare(
        f"{name}: embedding", embedding.image[0, ::4, 1 :: tokens // 8, 2 :: tokens // 8], golden["image_embed"], 2e-5
    )
    detail = embedding.features.detail or ()
    assert len(detail) == golden["high_res_count"].item()
    for i, fine in enumerate(detail):
        compare(f"{name}: high-res features", sample(fine, 16, 16), golden[f"high_res{i}"], 2e-5)
    places = sine_map(tokens, tokens, 256)[None]
    compare(f"{name}: sine positions", sample(places, 32, 8), golden["fpn_pos"], 1e-5)
    _check_prompts(predictor, embedding, golden, name)


def _check_prompts(predictor: ImagePredictor, embedding: object, golden: np.lib.npyio.NpzFile, name: str) -> None:
    best = None
    stride = predictor.model.config.low_res_side // 64
    for case, ((points, labels), box, uses_mask) in CASES.items():
        prompt = Prompt(points, labels, box, mask_logits=best if uses_mask else None)
        answer = predictor.predict(embedding, prompt, multimask=case == "click_multi")
        if case == "click_multi":
            best = answer.low_res[0, answer.predicted_iou[0].argmax()][None].clamp(-32, 32)
        compare(f"{name}: mask logits", answer.low_res[0, :, 1::stride, 1::stride], golden[f"{case}/low"], 1e-4)
        compare(f"{name}: predicted IoU", answer.predicted_iou[0], golden[f"{case}/iou"].ravel(), 1e-5)
        compare(f"{name}: object score", answer.object_score[0].ravel(), golden[f"{case}/object_score"].ravel(), 2e-5)
        if f"{case}/mask/bits" in golden:
            wanted = np.unpackbits(golden[f"{case}/mask/bits"])[: answer.masks[0].numel()]
            share = np.mean(answer.masks[0].numpy().ravel() != wanted.astype(bool))
            compare(f"{name}: share of differing mask pixels", share, np.zeros(()), 5e-4)


class RelativeScenario(Scenario):
    """One object in a session of its own, whose memories are sampled as these vectors are."""

    def memory_sample(self, memory: Tensor) -> Tensor:
        if self.predictor.model.config.memory.latents_edge:
            return memory.flatten(1).T[3::16]  # [C, 2e, e] -> [tokens, C]
        tokens = memory.shape[-1]
        return memory[::8, 3 :: tokens // 8, 5 :: tokens // 8]


FLOAT32 = {"low": 1e-3, "ptr": 3e-4, "score": 3e-4, "mem": 2e-3}
CLIPS = [
    # preset, side, file, name in the file, frames, with masks
    ("efficienttam-ti-512", None, "video-efficienttam_ti_512x512-fp32memory", "main", 6),
    *(
        pytest.param(*line, marks=pytest.mark.slow)
        for line in (
            ("efficienttam-ti-512", None, "video-efficienttam_ti_512x512", "main", 6),
            ("efficienttam-s-512", None, "video-efficienttam_s_512x512", "main", 6),
            ("efficienttam-ti-1", 512, "video-efficienttam_ti_1-side512-fp32memory", "pooled", 4),
            ("efficienttam-ti-2", 512, "video-efficienttam_ti_2-side512-fp32memory", "pooled", 4),
            ("edgetam", None, "video-edgetam", "main", 5),
            ("edgetam", None, "video-edgetam-fp32memory", "main", 5),
        )
    ),
]


@pytest.mark.parametrize(("name", "side", "file", "run", "frames"), CLIPS)
def test_clips(name: str, side: int | None, file: str, run: str, frames: int) -> None:
    model, features = golden_relative(name, side=side), OrderedDict()
    if name == "edgetam":
        torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 6.0)
    exact = {"memory_dtype": torch.float32} if "fp32" in file else {}
    limits = FLOAT32 if exact else BFLOAT16

    def play(what: str, length: int, obj: int, frame: int, *prompt: object, **parts: object) -> None:
        scenario = RelativeScenario(model, file, what, length, features, **exact)
        scenario.limits = limits
        scenario.ask("add", frame, obj, *prompt, **parts)
        scenario.propagate("forward", frame, frames=1 if what == "mask" else None)
        assert scenario.compared > 4

    with torch.inference_mode():
        play(run, frames, 1, 0, [[120, 108]], [1])
        play(run, frames, 2, 1, box_xyxy=BOX)
        if not exact:
            features.clear()
            play("mask", 3, 3, 0, mask=inputs.disc_mask(*SIZE_HW, 0))
    gc.collect()
