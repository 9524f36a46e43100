"""The official video predictor's names, arguments and returns: its notebook's calls, with another import line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2kit.compat import SAM2VideoPredictor, build_sam2_video_predictor
from sam2kit.model.sam2 import SAM2, FrameAnswer
from sam2kit.predict.session import Session
from sam2kit.weights import save_model

BLACK = np.zeros((48, 64, 3), np.uint8)


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

    predictor.fill_hole_area = 0
    assert frames(max_frame_num_to_track=2) == [3, 4, 5]
    assert state.options.max_hole_area == 0, "settings hold from the next call"
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
    assert state.objects["b"].prompts[5].points_xy.tolist() == [[30, 20]]
    _, _, logits = predictor.clear_all_prompts_in_frame(state, 5, "b")
    assert logits.shape == (2, 1, 40, 60)
    assert (logits[1] == -1024).all(), "no answer is left"
    assert predictor.clear_all_prompts_in_frame(state, 5, "b", need_output=False) is None


def test_masks_are_resized_once_and_then_cut(predictor: SAM2VideoPredictor, folder: Path) -> None:
    state = predictor.init_state(str(folder))

    def seen(mask: torch.Tensor) -> torch.Tensor:
        predictor.add_new_mask(state, 0, 1, mask)
        return state["mask_inputs_per_obj"][0][0][0, 0]

    fine = (torch.rand(80, 120, generator=torch.manual_seed(0)) > 0.5).float()
    wanted = torch.nn.functional.interpolate(fine[None, None], (64, 64), mode="bilinear", antialias=True)[0, 0] >= 0.5
    assert torch.equal(seen(fine), wanted.float())
    share = torch.full((40, 60), 0.4)
    share[:, ::2] = 0.7
    wanted = torch.nn.functional.interpolate(share[None, None], (64, 64), mode="bilinear", antialias=True)[0, 0] >= 0.5
    assert torch.equal(seen(share), wanted.float())
    assert torch.equal(seen(torch.full((64, 64), 0.3)), torch.full((64, 64), 0.3)), "of the square's size, it stays"


def test_corrected_frames_condition_unless_asked_otherwise(toy: SAM2, folder: Path) -> None:
    for keep in (True, False):
        predictor = SAM2VideoPredictor(toy, add_all_frames_to_correct_as_cond=keep)
        state = predictor.init_state(str(folder))
        predictor.add_new_points_or_box(state, 0, 1, [[20, 20]], [1])
        list(predictor.propagate_in_video(state))
        predictor.add_new_points_or_box(state, 5, 1, [[50, 30]], [0])
        assert (5 in state.objects[1].prompted) == keep


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


class TestKeywords:
    @pytest.fixture
    def saved(self, toy: SAM2, tmp_path: Path) -> str:
        return str(save_model(toy, tmp_path / "toy.safetensors"))

    def test_without_postprocessing(self, saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """No hole is filled, wavering masks stay, and prompted frames are remembered softly."""
        hard = {}
        for processed in (True, False):
            predictor = build_sam2_video_predictor("sam2.1_hiera_t.yaml", saved, "cpu", apply_postprocessing=processed)
            assert predictor.fill_hole_area == (8 if processed else 0)
            assert predictor.model.config.decoder.replaces_unstable_masks == processed
            remember, seen = predictor.model.remember, []

            def noted(*given: object, binary: bool, remember=remember, seen=seen) -> torch.Tensor:  # noqa: ANN001
                seen.append(binary)
                return remember(*given, binary=binary)

            monkeypatch.setattr(predictor.model, "remember", noted)
            state = predictor.init_state([BLACK] * 3)
            predictor.add_new_points_or_box(state, 0, 1, [[20, 20]], [1])
            list(predictor.propagate_in_video(state))
            hard[processed] = seen
        assert hard == {True: [True, False, False], False: [False, False, False]}

    def test_of_builder_and_predictor_together(self, saved: str) -> None:
        overrides = ["++model.non_overlap_masks=true", "++model.fill_hole_area=0"]
        predictor = build_sam2_video_predictor(
            "sam2.1_hiera_t.yaml", saved, "cpu", hydra_overrides_extra=overrides, vos_optimized=True
        )
        assert (predictor.non_overlap_masks, predictor.fill_hole_area) == (True, 0), "they stand before postprocessing"
        options = predictor.init_state([BLACK]).options
        assert (options.exclusive, options.max_hole_area) == (True, 0)
        predictor = SAM2VideoPredictor.from_pretrained(
            saved, device="cpu", vos_optimized=True, mode="eval", fill_hole_area=3
        )
        assert (predictor.fill_hole_area, predictor.model.compute_dtype) == (3, None)

    def test_unknown_ones_are_refused_by_name(self, saved: str, toy: SAM2) -> None:
        for call in (
            lambda: build_sam2_video_predictor("sam2.1_hiera_t.yaml", saved, wings=2),
            lambda: SAM2VideoPredictor.from_pretrained(saved, wings=2),
            lambda: SAM2VideoPredictor(toy, wings=2),
        ):
            with pytest.raises(ValueError, match=r"does not take 'wings'; it takes .*fill_hole_area"):
                call()

    def test_a_correction_makes_forget_what_is_around_it(self, toy: SAM2, folder: Path) -> None:
        for forgets in (False, True):
            predictor = SAM2VideoPredictor(toy, clear_non_cond_mem_around_input=forgets)
            state = predictor.init_state([BLACK] * 20)
            predictor.add_new_points_or_box(state, 0, 1, [[20, 20]], [1])
            list(predictor.propagate_in_video(state))
            predictor.add_new_points_or_box(state, 12, 1, [[30, 30]], [0])
            left = set(state["output_dict_per_obj"][0]["non_cond_frame_outputs"])
            assert left == ({1, 2, 3, 4} if forgets else {*range(1, 20)} - {12})


def test_the_predictor_is_used_like_a_module(predictor: SAM2VideoPredictor) -> None:
    assert predictor.to("cpu") is predictor.eval() is predictor
    assert predictor.image_size == 64
    predictor.load_state_dict(predictor.state_dict())
    assert not predictor.training and next(predictor.parameters()).device.type == "cpu"
    assert predictor.half().model.weight_dtype == torch.float16


def test_what_is_set_reaches_the_model_or_is_refused(predictor: SAM2VideoPredictor) -> None:
    encoder = torch.nn.Sequential(predictor.image_encoder)
    predictor.image_encoder = encoder
    assert predictor.model.image_encoder is encoder
    for name, value in {"image_size": 512, "max_cond_frames_in_attn": 4}.items():
        with pytest.raises(AttributeError, match=f"'{name}' is no setting of SAM2VideoPredictor.*fill_hole_area"):
            setattr(predictor, name, value)

    class Derived(SAM2VideoPredictor):
        pass

    derived = Derived(predictor.model)
    derived.own_notes = 4
    assert derived.own_notes == 4


class TestState:
    def test_reads_like_the_official_dict(self, predictor: SAM2VideoPredictor, folder: Path) -> None:
        state = predictor.init_state(folder, offload_state_to_cpu=True)
        assert (state["num_frames"], state["video_height"], state["video_width"]) == (8, 40, 60)
        assert state["obj_ids"] == [] and state["offload_state_to_cpu"] is True
        assert state["images"].shape == (8, 3, 64, 64) and state["images"][-1].shape == (3, 64, 64)
        images = state["images"]
        assert images[2:4].shape == (2, 3, 64, 64)
        assert (images.dtype, images.device.type, images.size(0)) == (torch.float32, "cpu", 8)
        assert images.size() == images.to("cpu", torch.float16).shape == images.shape
        predictor.add_new_points_or_box(state, 0, 7, points=[[30, 20]], labels=[1], box=[0, 0, 30, 20])
        predictor.add_new_mask(state, 2, "b", np.ones((40, 60)))
        list(predictor.propagate_in_video(state))
        assert state["obj_ids"] == [7, "b"] and state["obj_id_to_idx"] == {7: 0, "b": 1}
        assert state["obj_idx_to_id"][1] == "b"
        points = state["point_inputs_per_obj"][0][0]
        assert points["point_coords"].tolist() == [[[0, 0], [32, 32], [32, 32]]]
        assert points["point_labels"].tolist() == [[2, 3, 1]]
        assert state["mask_inputs_per_obj"][1][2].shape == (1, 1, 64, 64)
        outputs = state["output_dict_per_obj"][0]
        assert set(outputs["cond_frame_outputs"]) == {0} and set(outputs["non_cond_frame_outputs"]) == {*range(1, 8)}
        first = outputs["cond_frame_outputs"][0]
        assert (first["pred_masks"].shape, first["obj_ptr"].shape) == ((1, 1, 16, 16), (1, 32))
        assert state["frames_tracked_per_obj"][0][3] == {"reverse": False}
        assert all(state.get(key) is not None for key in state.keys()), "each key can be read"  # noqa: SIM118
        assert isinstance(state, Mapping) and len(state) == len([*state.values()]) == len(dict(state.items()))
        assert state in [state] and state != {}
        assert "images" in state and "wings" not in state and state.get("wings") is None

    def test_what_it_has_not_is_explained(self, predictor: SAM2VideoPredictor, folder: Path) -> None:
        state = predictor.init_state(folder)
        with pytest.raises(KeyError, match="no 'cached_features'; it has images, num_frames"):
            _ = state["cached_features"]
        with pytest.raises(TypeError, match=r"'images' cannot be set.*VideoPredictor.stream"):
            state["images"] = []
        for change in (
            lambda: state.pop("images"),
            lambda: state.update(images=[]),
            lambda: state.__delitem__("images"),
        ):
            with pytest.raises(TypeError, match=r"can only be read.*VideoPredictor.stream"):
                change()


class TestPrompts:
    def coordinates(self, predictor: SAM2VideoPredictor, **prompt: object) -> list:
        state = predictor.init_state([BLACK] * 2)
        predictor.add_new_points_or_box(state, 0, 1, **prompt)
        given = state["point_inputs_per_obj"][0][0]
        return [*zip(given["point_coords"][0].tolist(), given["point_labels"][0].tolist(), strict=True)]

    def test_corners_as_points(self, predictor: SAM2VideoPredictor) -> None:
        as_box = self.coordinates(predictor, box=[5, 6, 40, 42], points=[[20, 20]], labels=[1])
        as_points = self.coordinates(predictor, points=[[5, 6], [20, 20], [40, 42]], labels=[2, 1, 3])
        assert as_points == as_box

    def test_points_that_fill_up_a_row(self, predictor: SAM2VideoPredictor, tmp_path: Path) -> None:
        clicks = self.coordinates(predictor, points=[[20, 24], [0, 0]], labels=[1, -1])
        assert clicks == [([20, 32], 1), ([0, 0], -1)]
        state = predictor.init_state([BLACK] * 2)
        for _ in range(2):
            predictor.add_new_points(state, 0, 1, [[20, 20], [0, 0]], [1, -1], clear_old_points=False)
        assert state.objects[1].prompts[0].labels.tolist() == [1, -1] * 2
        saved = Session.load(state.save(tmp_path / "a.sam2kit"), [BLACK] * 2)
        assert saved.objects[1].prompts[0].labels.tolist() == [1, 1]
        with pytest.raises(
            ValueError, match=r"1 \(this\), 0 .* 2 \(top left of a box\).* -1 \(no point\), got \[5.0\]"
        ):
            self.coordinates(predictor, points=[[1, 1]], labels=[5])

    def test_corners_that_make_no_box(self, predictor: SAM2VideoPredictor) -> None:
        for prompt in (
            {"points": [[5, 6]], "labels": [2]},
            {"points": [[5, 6]] * 4, "labels": [2, 3, 2, 3]},
            {"points": [[5, 6], [9, 9]], "labels": [2, 3], "box": [0, 0, 9, 9]},
        ):
            with pytest.raises(ValueError, match="the two corners of one box: give each once"):
                self.coordinates(predictor, **prompt)

    def test_outside_and_the_other_way_round(self, predictor: SAM2VideoPredictor) -> None:
        """The official predictor takes them as they are."""
        outside = self.coordinates(predictor, points=[[64.4, 20], [-3, 50]], labels=[1, 0])
        np.testing.assert_allclose([xy for xy, _ in outside], [[64.4, 20 / 48 * 64], [-3, 50 / 48 * 64]], rtol=1e-6)
        assert self.coordinates(predictor, box=[48, 36, 6, 12]) == [([48, 48], 2), ([6, 16], 3)]


def test_frames_keep_what_their_files_hold(predictor: SAM2VideoPredictor, tmp_path: Path) -> None:
    """A phone's JPEGs that lie on their side stay so, as the official loader leaves them."""
    exif = Image.Exif()
    exif[0x112] = 6
    for t in range(2):
        Image.fromarray(np.full((20, 30, 3), 90 * t, np.uint8)).save(tmp_path / f"{t}.jpg", exif=exif)
    state = predictor.init_state(str(tmp_path))
    assert (state["video_height"], state["video_width"]) == (20, 30)
    assert predictor.add_new_points_or_box(state, 1, 1, [[25, 5]], [1])[2].shape == (1, 1, 20, 30)


def test_logits_are_exact_and_absent_is_far_below(toy: SAM2, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither cut off nor rounded: what comes out is what the decoder gave, resized."""
    answer, given = toy.answer, []

    def louder(*arguments: object, **keywords: object) -> FrameAnswer:
        found = answer(*arguments, **keywords)
        score = torch.tensor([-1.0 if len(given) == 3 else 1.0])
        given.append(found.mask_logits * 40)
        return FrameAnswer(given[-1], found.predicted_iou, score, found.pointer)

    monkeypatch.setattr(toy, "answer", louder)
    predictor = SAM2VideoPredictor(toy, fill_hole_area=0)
    state = predictor.init_state(folder)
    first = predictor.add_new_points_or_box(state, 0, 1, [[20, 20]], [1])[2]
    shown = [logits for _, _, logits in predictor.propagate_in_video(state)]
    assert torch.equal(shown[0], first)
    for t, (got, low_res) in enumerate(zip(shown, given, strict=True)):
        wanted = torch.nn.functional.interpolate(low_res, (40, 60), mode="bilinear", align_corners=False)
        torch.testing.assert_close(got, torch.full_like(wanted, -1024) if t == 3 else wanted, atol=1e-3, rtol=0)
    assert max(logits.abs().max() for logits in given) > 20


class TestCorrections:
    """A frame that propagation has passed counts as tracked, and recalls what was known when it ended."""

    def recalled(self, predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch, *prompts: tuple) -> list[list]:
        """The frames whose memories are recalled, prompt by prompt after the first and a propagation."""
        state, seen = predictor.init_state([BLACK] * 5), []
        recall = predictor._predictor.tracker._recalled

        def noted(session: object, group: list) -> object:
            seen[-1] = sorted(frame for frame, _ in group[0][1].maps)
            return recall(session, group)

        predictor.add_new_points_or_box(state, 0, 1, [[20, 20]], [1])
        list(predictor.propagate_in_video(state))
        monkeypatch.setattr(predictor._predictor.tracker, "_recalled", noted)
        for name, *arguments in prompts:
            seen.append([])
            list(getattr(predictor, name)(state, *arguments) or ())
        return seen

    def test_a_prompted_frame_recalls_itself(
        self, predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        click = "add_new_points", 0, 1, [[30, 30]], [0]
        assert self.recalled(predictor, monkeypatch, click) == [[0]]

    def test_nothing_that_did_not_settle_is_recalled(
        self, predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clicks = [("add_new_points", frame, 1, [[30, 30]], [0], False) for frame in (2, 2, 3)]
        first, again, next_frame = self.recalled(predictor, monkeypatch, *clicks)
        assert first == again == [0, 1] and next_frame == [0, 1, 2]
        track = ("propagate_in_video", 4)
        assert self.recalled(predictor, monkeypatch, *clicks, track, clicks[0])[-1] == [0, 1, 2, 3]

    def test_taken_back_before_it_settled(self, predictor: SAM2VideoPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
        click, back = ("add_new_points", 2, 1, [[30, 30]], [0]), ("clear_all_prompts_in_frame", 2, 1)
        assert self.recalled(predictor, monkeypatch, click, back, click) == [[0, 1], [], [0, 1]]

    def test_a_lost_correction_is_gone_on_from(self, toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
        predictor = SAM2VideoPredictor(toy, add_all_frames_to_correct_as_cond=False)
        state, given, ask = predictor.init_state([BLACK] * 3), [], predictor._predictor.tracker.ask

        def noted(*arguments: object) -> object:
            given.append((arguments[-1].mask_logits, ask(*arguments)))
            return given[-1][1]

        predictor.add_new_points(state, 0, 1, [[20, 20]], [1])
        list(predictor.propagate_in_video(state))
        monkeypatch.setattr(predictor._predictor.tracker, "ask", noted)
        for x in (30, 40):
            predictor.add_new_points(state, 0, 1, [[x, 30]], [0], clear_old_points=False)
        torch.testing.assert_close(given[1][0][0], given[0][1].low_res(state.options).clamp(-32, 32))
