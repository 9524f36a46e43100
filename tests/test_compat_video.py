"""The official video predictor's names, arguments and returns: its notebook's calls, with another import line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2kit.compat import SAM2VideoPredictor, build_sam2_video_predictor
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import save_model


@pytest.fixture
def predictor(toy: SAM2) -> SAM2VideoPredictor:
    with torch.no_grad():
        toy.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5.0)
    return SAM2VideoPredictor(toy)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight JPEG frames with names that the official loader refuses."""
    random = np.random.default_rng(0)
    for t in range(8):
        Image.fromarray(random.integers(0, 255, (40, 60, 3), np.uint8)).save(tmp_path / f"shot-{t}.jpg")
    return tmp_path


def test_the_notebooks_calls(predictor: SAM2VideoPredictor, folder: Path) -> None:
    inference_state = predictor.init_state(video_path=str(folder))
    predictor.reset_state(inference_state)
    _, out_obj_ids, out_mask_logits = predictor.add_new_points_or_box(
        inference_state=inference_state,
        frame_idx=0,
        obj_id=1,
        points=np.array([[21, 35]], dtype=np.float32),
        labels=np.array([1], np.int32),
    )
    assert out_obj_ids == [1]
    assert out_mask_logits.shape == (1, 1, 40, 60)
    assert (out_mask_logits[0] > 0.0).cpu().numpy().dtype == bool
    _, out_obj_ids, _ = predictor.add_new_points_or_box(
        inference_state=inference_state, frame_idx=0, obj_id=4, box=np.array([30, 0, 50, 30], dtype=np.float32)
    )
    assert out_obj_ids == [1, 4]
    video_segments = {}
    for frame, ids, logits in predictor.propagate_in_video(inference_state):
        video_segments[frame] = {i: (logits[k] > 0.0).cpu().numpy() for k, i in enumerate(ids)}
    assert list(video_segments) == list(range(8))
    assert video_segments[7][4].shape == (1, 40, 60)
    ids, updated = predictor.remove_object(inference_state, obj_id=4)
    assert ids == [1]
    assert [f for f, _ in updated] == [0]
    assert updated[0][1].shape == (1, 1, 40, 60)
    assert predictor.remove_object(inference_state, obj_id=99) == ([1], [])
    with pytest.raises(KeyError, match="no object 99"):
        predictor.remove_object(inference_state, 99, strict=True)


def test_counts_and_directions_are_the_official_ones(predictor: SAM2VideoPredictor, folder: Path) -> None:
    state = predictor.init_state(folder)
    predictor.add_new_points(state, 3, 1, [[20, 20]], [1])

    def frames(**options: object) -> list[int]:
        return [f for f, _, _ in predictor.propagate_in_video(state, **options)]

    assert frames(max_frame_num_to_track=2) == [3, 4, 5]
    assert frames(start_frame_idx=5, reverse=True) == [5, 4, 3, 2, 1, 0]
    assert frames(start_frame_idx=0, reverse=True) == []


def test_masks_of_any_size(predictor: SAM2VideoPredictor, folder: Path) -> None:
    state = predictor.init_state(str(folder))
    mask = torch.zeros(20, 30)
    mask[5:15, 5:25] = 1
    frame, ids, logits = predictor.add_new_mask(state, 2, "a", mask)
    assert (frame, ids) == (2, ["a"])
    shown = logits[0, 0] > 0
    assert shown[20, 30]
    assert not shown[2, 2]
    predictor.add_new_points_or_box(state, 5, "b", points=[[0.5, 0.5]], labels=[1], normalize_coords=False)
    assert state.tracks["b"].prompts[5].points_xy.tolist() == [[30, 20]]
    _, _, logits = predictor.clear_all_prompts_in_frame(state, 5, "b")
    assert logits.shape == (2, 1, 40, 60)
    assert (logits[1] == -1024).all(), "no answer is left"
    assert predictor.clear_all_prompts_in_frame(state, 5, "b", need_output=False) is None


def test_corrections_stick_unless_asked_otherwise(toy: SAM2, folder: Path) -> None:
    for keep in (True, False):
        predictor = SAM2VideoPredictor(toy, add_all_frames_to_correct_as_cond=keep)
        state = predictor.init_state(str(folder))
        predictor.add_new_points_or_box(state, 0, 1, [[20, 20]], [1])
        list(predictor.propagate_in_video(state))
        predictor.add_new_points_or_box(state, 5, 1, [[50, 30]], [0])
        assert (5 in state.tracks[1].prompted) == keep


def test_mistakes(predictor: SAM2VideoPredictor, folder: Path) -> None:
    state = predictor.init_state(str(folder))
    with pytest.raises(ValueError, match="points or a box"):
        predictor.add_new_points_or_box(state, 0, 1)
    with pytest.raises(ValueError, match="together"):
        predictor.add_new_points_or_box(state, 0, 1, points=[[1, 1]])
    with pytest.raises(ValueError, match="clear_old_points=True"):
        predictor.add_new_points_or_box(state, 0, 1, box=[0, 0, 9, 9], clear_old_points=False)
    with pytest.raises(ValueError, match="nothing to track"):
        list(predictor.propagate_in_video(state))
    with pytest.raises(ValueError, match=r"\[H, W\]"):
        predictor.add_new_mask(state, 0, 1, np.zeros((2, 4, 4)))


def test_build(toy: SAM2, tmp_path: Path) -> None:
    save_model(toy, tmp_path / "toy.safetensors")
    predictor = build_sam2_video_predictor("sam2.1_hiera_t.yaml", tmp_path / "toy.safetensors", device="cpu")
    assert predictor.device.type == "cpu"
    assert predictor.model.compute_dtype is None
    plain = build_sam2_video_predictor(
        "sam2.1_hiera_t.yaml", tmp_path / "toy.safetensors", "cpu", apply_postprocessing=False
    )
    assert plain.init_state([np.zeros((8, 8, 3), np.uint8)]).options.max_hole_area == 0
