"""Sessions: objects with names and numbers, undo, parts of a clip, candidates, and pictures as clips of one frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2kit import ImagePredictor, Prompt, Session, VideoOptions, VideoPredictor, load_model
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.frame_masks import ExactLogits


@pytest.fixture
def predictor(present: SAM2) -> VideoPredictor:
    return VideoPredictor(present)


def track(predictor: VideoPredictor, session: Session) -> dict[int, torch.Tensor]:
    return {m.frame_index: m.low_res for m in predictor.propagate(session)}


class TestObjects:
    def test_numbers_names_and_the_active_one(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        assert [session.add_object(), session.add_object("cup"), session.add_object(name="  my  dog ")] == [1, "cup", 3]
        assert [(o.number, o.name) for o in session.objects.values()] == [(1, "Object 1"), (2, "cup"), (3, "my dog")]
        assert session.active == 3
        session.select("cup")
        session.rename("cup", "saucer")
        session.remove_object("cup")
        assert session.active == 3
        assert session.add_object() == 4, "numbers of objects that are there are not used twice"
        for name, message in (
            ("", "1 to 40 characters"),
            ("my dog", "there is a “my dog” already"),
            ("x" * 41, "got 41"),
        ):
            with pytest.raises(ValueError, match=message):
                session.rename(1, name)
        with pytest.raises(ValueError, match="there is an object 1 already"):
            session.add_object(1)
        session.reset()
        assert (session.active, session.add_object()) == (None, 1)

    def test_masks_are_found_by_id_or_name(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        session.add_object(7, "cup")
        found = predictor.add_points(session, 0, 7, [16, 20])
        assert np.array_equal(found.mask(7), found.mask("cup"))
        with pytest.raises(ValueError, match="these would be 1001 objects, and 1000 are the most"):
            session.check_room(1000)


class TestUndo:
    def test_each_change_is_taken_back_in_turn(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        predictor.add_points(session, 3, "cup", [16, 20])
        first = session.masks(3).low_res
        predictor.add_points(session, 3, "cup", [30, 40], [0])
        session.rename("cup", "saucer")
        session.choose(3, "cup", 0)
        session.clear(3, "cup")
        session.remove_object("cup")
        session.reset()
        for _ in range(3):
            session.undo()
        assert session.objects["cup"].prompts[3].points_xy.shape == (2, 2)
        session.undo()
        assert session.objects["cup"].name == "cup"
        assert session.undo() == 3
        assert torch.equal(session.masks(3).low_res, first)
        assert session.undo() == 3
        assert not session.objects and session.undo() is None

    def test_what_was_tracked_since_then_stays(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        predictor.add_points(session, 0, 1, [16, 20])
        predictor.add_points(session, 5, 1, [20, 20])
        list(predictor.propagate(session, frames=8))
        session.undo()
        assert 5 not in session.objects[1].prompts and 7 in session.objects[1].tracked
        session.remove_object(1)
        session.undo()
        assert 7 in session.objects[1].tracked


class TestPartsOfAClip:
    @pytest.mark.parametrize("part", [range(3, 17), pytest.param(range(2, 20, 3), marks=pytest.mark.slow)])
    def test_masks_are_those_of_the_cut_clip(self, predictor: VideoPredictor, clip: np.ndarray, part: range) -> None:
        session = predictor.open(clip)
        predictor.add_points(session, part[1], "a", [16, 20])
        predictor.add_box(session, part[4], "b", [26, 26, 42, 42])
        session.work_on(part)
        assert session.pointer_reach == min(len(part), 16)
        cut = predictor.open(session.clip.cut(part.start, part.stop, part.step))
        predictor.add_points(cut, 1, "a", [16, 20])
        predictor.add_box(cut, 4, "b", [26, 26, 42, 42])
        ours, theirs = track(predictor, session), track(predictor, cut)
        assert list(ours) == [part[i] for i in theirs]
        for frame, i in zip(ours, theirs, strict=True):
            assert torch.equal(ours[frame], theirs[i])
        predictor.add_points(session, part[3], "a", [40, 30], [0])
        predictor.add_points(cut, 3, "a", [40, 30], [0])
        assert torch.equal(session.masks(part[3]).low_res, cut.masks(3).low_res)

    def test_what_lies_outside_waits(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        predictor.add_points(session, 0, 1, [16, 20])
        predictor.add_points(session, 9, 1, [20, 20])
        assert session.work_on(range(5, 15)) == [0]
        alone = predictor.open(clip)
        predictor.add_points(alone, 9, 1, [20, 20])
        alone.work_on(range(5, 15))
        for frame, logits in track(predictor, session).items():
            assert torch.equal(logits, track(predictor, alone)[frame]) if frame == 5 else True
        with pytest.raises(ValueError, match="frame 2 is not among the frames in use, 5 to 14"):
            predictor.add_points(session, 2, 1, [1, 1])
        assert session.work_on(range(len(clip))) == []
        assert session.objects[1].prompts[0] is not None
        with pytest.raises(ValueError, match="are no frames of a clip of 20"):
            session.work_on(range(5, 30))


class TestCandidates:
    def test_another_one_can_be_chosen(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        predictor.add_points(session, 0, 1, [16, 20])
        best = session.objects[1].prompted[0]
        assert best.candidate_count == 3 and best.chosen == int(best.candidates.predicted_iou.argmax())
        assert torch.equal(best.choose(best.chosen).logits.tensor(), best.logits.tensor())
        other = (best.chosen + 1) % 3
        shown = session.choose(0, 1, other)
        assert torch.equal(shown.low_res, session.options.cleaned(best.candidates.logits[other][None, None]))
        track(predictor, session)
        again = predictor.open(clip)
        predictor.add_points(again, 0, 1, [16, 20])
        assert not torch.equal(track(predictor, again)[3], session.masks(3).low_res), "tracked from what was chosen"
        with pytest.raises(ValueError, match="no candidate 4 to choose"):
            session.choose(0, 1, 3)
        predictor.add_points(session, 0, 1, [30, 40], [0])
        assert session.objects[1].prompted[0].candidate_count == 1

    def test_all_prompts_of_a_frame(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session, by_clicks = predictor.open(clip), predictor.open(clip)
        before = predictor.preview(session, 2, 1, [[16, 20]], [1])
        assert not session.objects
        first = predictor.set_prompts(session, 2, 1, [[16, 20]], [1])
        assert torch.equal(before.low_res, first.low_res)
        predictor.add_points(by_clicks, 2, 1, [16, 20])
        both = predictor.set_prompts(session, 2, 1, [[16, 20], [30, 40]], [1, 0])
        assert torch.equal(both.low_res, predictor.add_points(by_clicks, 2, 1, [30, 40], [0]).low_res)
        moved = predictor.set_prompts(session, 2, 1, [[18, 20], [30, 40]], [1, 0])
        fresh = predictor.open(clip)
        assert torch.equal(moved.low_res, predictor.add_points(fresh, 2, 1, [[18, 20], [30, 40]], [1, 0]).low_res)
        steps = len(session.past)
        predictor.set_prompts(session, 2, 1, [[18, 20], [30, 40]], [1, 0])
        assert len(session.past) == steps, "nothing has changed"
        assert not len(predictor.set_prompts(session, 2, 1))


def test_the_part_under_the_click_is_kept_and_the_model_sees_all(
    predictor: VideoPredictor, clip: np.ndarray, tmp_path: Path
) -> None:
    other = VideoPredictor(predictor.model, VideoOptions(max_speck_area=8, keep_clicked=True))
    sessions = predictor.open(clip), other.open(clip)
    for session in sessions:
        predictor.add_points(session, 0, 1, [16, 20])
        answer = session.objects[1].prompted[0]
        side = answer.logits.values.shape[0]
        planted = torch.full((side, side), -3.0)
        for x in (16, 50):
            planted[round(18 / 48 * side) : round(24 / 48 * side), round((x - 4) / 64 * side) :][:, :3] = 3.0
        session.objects[1].prompted[0] = replace(answer, logits=ExactLogits(planted))
    whole, kept = (session.masks(0).mask(1) for session in sessions)
    assert kept[20, 16] and not kept[:, 40:].any() and whole[20, 50]
    assert np.array_equal(kept[:, :30], whole[:, :30])
    again = other.load(other.save(sessions[1], tmp_path / "work.sam2kit"), clip)
    assert np.array_equal(again.masks(0).mask(1), kept)
    for session in sessions:
        predictor.add_points(session, 0, 1, [30, 40], [0])
        track(predictor, session)
    for frame in (0, 3):
        plain, cleaned = (session.objects[1].result(frame).unfilled() for session in sessions)
        assert torch.equal(plain, cleaned), "neither what is fed back nor what is remembered is cleaned"


class TestPictures:
    """A picture is a clip of one frame: the same masks as the ImagePredictor's, to the bit."""

    @pytest.fixture(scope="class")
    def picture(self) -> np.ndarray:
        image = np.random.default_rng(0).integers(0, 90, (60, 80, 3), np.uint8)
        image[20:45, 10:40] = (240, 200, 40)
        return image

    @pytest.mark.parametrize("weights", ["nano", "toy"])
    def test_one_story(self, request: pytest.FixtureRequest, picture: np.ndarray, weights: str) -> None:
        model = request.getfixturevalue(weights)
        images, videos = ImagePredictor(model), VideoPredictor(model)
        embedding, session = images.encode(picture), videos.open(picture)
        assert session.is_picture
        for points, labels, box in (
            ([[25, 30]], [1], None),
            ([[25, 30], [60, 50]], [1, 0], None),
            ([], [], [8, 18, 42, 47]),
            ([[30, 30]], [0], [8, 18, 42, 47]),
        ):
            session.reset()
            ours = videos.set_prompts(session, 0, 1, points, labels, box)
            asked = images.predict(embedding, Prompt(points or None, labels or None, box))
            assert torch.equal(ours.logits, asked.best().logits[:, 0])
            result = session.objects[1].prompted[0]
            assert result.candidate_count == asked.raw.shape[1]
            assert np.allclose(result.predicted_iou, asked.best().predicted_iou.item(), atol=0)
            if asked.raw.shape[1] == 1:
                continue
            for n in range(3):
                chosen = session.choose(0, 1, n)
                assert torch.equal(chosen.logits, asked.candidate(n).logits[:, 0])
            refined = videos.set_prompts(session, 0, 1, [*points, [50, 20]], [*labels, 0], box)
            more = Prompt([*points, [50, 20]], [*labels, 0], box, asked.candidate(2).low_res[0])
            assert torch.equal(refined.logits, images.predict(embedding, more).best().logits[:, 0])

    def test_another_model_goes_on_and_the_file_keeps_both(
        self, nano: SAM2, picture: np.ndarray, tmp_path: Path
    ) -> None:
        """Also one of another side."""
        first, second = VideoPredictor(nano), VideoPredictor(load_model("nano", "cpu", side=512))
        session = first.open(picture)
        first.add_points(session, 0, 1, [[30, 20]])
        session.features.clear()
        second.add_points(session, 0, 2, [[10, 10]])
        second.add_points(session, 0, 1, [[25, 30]])
        session.features.clear()
        first.add_points(session, 0, 3, [[40, 30]])
        again = first.load(first.save(session, tmp_path / "work.sam2kit"))
        assert np.array_equal(again.masks(0).masks, session.masks(0).masks)
        assert again.masks(0).masks.shape == (3, *picture.shape[:2])

    def test_files_hold_the_picture(self, nano: SAM2, picture: np.ndarray, tmp_path: Path) -> None:
        Image.fromarray(picture).save(tmp_path / "photo.png")
        predictor = VideoPredictor(nano)
        session = predictor.open(tmp_path / "photo.png")
        session.add_object("cup", "Ätna 🗻 „x“")
        predictor.add_points(session, 0, "cup", [25, 30])
        session.choose(0, "cup", 2)
        predictor.add_box(session, 0, 5, [8, 18, 42, 47])
        session.add_object()
        session.select(5)
        path = session.save(tmp_path / "work.safetensors")
        (tmp_path / "photo.png").unlink()
        again = Session.load(path)
        assert np.array_equal(again.clip.frame(0), picture)
        assert (again.file_name, again.active, again.config) == ("photo.png", 5, nano.config)
        assert [(i, o.number, o.name) for i, o in again.objects.items()] == [
            ("cup", 1, "Ätna 🗻 „x“"), (5, 2, "Object 5"), (3, 3, "Object 3"),
        ]  # fmt: skip
        ours, theirs = again.masks(0), session.masks(0)
        assert torch.equal(ours.logits, theirs.logits)
        assert again.objects["cup"].prompted[0].chosen == 2
        assert torch.equal(again.choose(0, "cup", 1).logits, session.choose(0, "cup", 1).logits)
        predictor.set_prompts(again, 0, "cup", [[25, 30], [60, 50]], [1, 0])
        predictor.set_prompts(session, 0, "cup", [[25, 30], [60, 50]], [1, 0])
        assert torch.equal(again.masks(0).logits, session.masks(0).logits)
