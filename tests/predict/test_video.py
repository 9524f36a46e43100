"""Video sessions: what people expect of prompts, corrections, propagation, cancelling, saving and streaming."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision
import torch
from PIL import Image

from sam2kit.media.drawing import grow_mask
from sam2kit.model.memory_bank import choose_memories
from sam2kit.model.sam2 import SAM2, FrameAnswer
from sam2kit.predict.frame_masks import FrameMasks
from sam2kit.predict.geometry import binary_mask
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import save_model
from tests.predict.conftest import FRAMES


@pytest.fixture
def predictor(present: SAM2) -> VideoPredictor:
    return VideoPredictor(present)


def prompted(predictor: VideoPredictor, clip: np.ndarray) -> Session:
    """Two objects that begin on different frames."""
    session = predictor.open(clip)
    predictor.add_points(session, 3, "first", [16, 20])
    predictor.add_box(session, 8, "second", [26, 26, 42, 42])
    return session


def tracked(predictor: VideoPredictor, clip: np.ndarray) -> Session:
    """Object 1, clicked on frame 0 and tracked to the end."""
    session = predictor.open(clip)
    predictor.add_points(session, 0, 1, [12, 20])
    run(predictor.propagate(session))
    return session


def run(frames: object) -> list[FrameMasks]:
    return list(frames)  # type: ignore[call-overload]


def run_to(frames: object, last: int) -> None:
    for masks in frames:  # type: ignore[attr-defined]
        if masks.frame_index == last:
            return
    raise AssertionError(f"frame {last} was not reached")


def assert_same(one: Session, other: Session) -> None:
    for frame in range(len(one)):
        ours, theirs = one.masks(frame), other.masks(frame)
        assert ours.object_ids == theirs.object_ids and torch.equal(ours.low_res, theirs.low_res), frame


class TestPropagation:
    @pytest.mark.parametrize(
        ("arguments", "order"),
        [
            ((), [*range(3, FRAMES), *range(7, -1, -1)]),
            ((5, "forward", 3), [5, 6, 7, 8]),
            ((2, "backward"), [2, 1, 0]),
            ((0, "backward"), [0]),
            ((10, "both", 2), [10, 11, 12, 9, 8]),
        ],
    )
    def test_plans(self, predictor: VideoPredictor, clip: np.ndarray, arguments: Any, order: list[int]) -> None:
        session = prompted(predictor, clip)
        steps = predictor.plan(session, *arguments)
        assert [s.frame for s in steps] == order
        assert session.run == 0 and not session.plan, "planning changes nothing"
        ahead = {s.frame: s.object_ids for s in predictor.plan(session, direction="forward")}
        assert (ahead[7], ahead[8]) == (("first",), ("first", "second")), "each begins at its own prompt"
        for direction, spans in (("both", ((0, 7), (4, 12))), ("backward", ((0, 3), (4, 8)))):
            steps = predictor.plan(session, direction=direction, frames=4)
            for name, (first, last) in zip(("first", "second"), spans, strict=True):
                assert sorted(s.frame for s in steps if name in s.object_ids) == list(range(first, last + 1))

    def test_the_batch_over_objects_is_the_loop_over_objects(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        def followed(names: str) -> Session:
            session = predictor.open(clip)
            for name in names:
                predictor.add_points(session, 2, name, [10 + 15 * "abc".index(name), 20])
            run(predictor.propagate(session))
            return session

        together = followed("abc")
        for row, name in enumerate("abc"):
            alone = followed(name)
            for frame in range(FRAMES):
                ours, theirs = together.masks(frame), alone.masks(frame)
                # rounded to 1/16, a last digit may tip over
                torch.testing.assert_close(ours.low_res[row], theirs.low_res[0], atol=0.2, rtol=0)
                assert np.mean(ours.masks[row] != theirs.masks[0]) < 0.005

    @pytest.mark.slow
    def test_bounded_memory_is_the_same_as_keeping_everything(self, present: SAM2, clip: np.ndarray) -> None:
        sessions = []
        for forget in (True, False):
            predictor = VideoPredictor(present, VideoOptions(forget=forget))
            session = predictor.open(clip)
            predictor.add_points(session, 3, "first", [16, 20])
            run(predictor.propagate(session))
            predictor.add_points(session, 6, "first", [30, 30], [0])  # needs memories that were forgotten
            run(predictor.propagate(session, 6, "both"))
            sessions.append(session)
        assert_same(*sessions)
        held, all_held = (len(s.objects["first"].memories) for s in sessions)
        assert held <= 2 + 2 * present.config.memory.slots < all_held

    @pytest.mark.slow
    def test_propagation_from_the_prompts_depends_on_them_alone(
        self, predictor: VideoPredictor, clip: np.ndarray
    ) -> None:
        once, twice = prompted(predictor, clip), prompted(predictor, clip)
        run(predictor.propagate(once))
        run(predictor.propagate(twice, 0, "forward"))
        run(predictor.propagate(twice))
        assert_same(once, twice)

    @pytest.mark.slow
    @pytest.mark.parametrize("compute", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("memory", [torch.bfloat16, torch.float16])
    def test_half_precision(self, present: SAM2, clip: np.ndarray, compute: torch.dtype, memory: torch.dtype) -> None:
        exact = prompted(VideoPredictor(present), clip)
        run(VideoPredictor(present).propagate(exact))
        present.compute_dtype = compute
        predictor = VideoPredictor(present, VideoOptions(memory_dtype=memory))
        session = prompted(predictor, clip)
        predictor.add_mask(session, 5, "third", clip[5, ..., 0] > 120)
        run(predictor.propagate(session))
        predictor.add_points(session, 12, "first", [5, 5], [0])
        present.compute_dtype = torch.float32  # features that were kept serve both
        run(predictor.propagate(session, 12, "forward"))
        same = [np.mean(session.masks(f).mask("second") == exact.masks(f).mask("second")) for f in range(FRAMES)]
        assert np.mean(same) > 0.9

    def test_masks_follow_the_memory(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        """Other prompts, other tracked masks: the memory is really looked at."""
        logits = []
        for columns in (slice(4, 16), slice(40, 60)):
            session, mask = predictor.open(clip), np.zeros((48, 64), bool)
            mask[12:28, columns] = True
            predictor.add_mask(session, 0, 1, mask)
            run(predictor.propagate(session, frames=3))
            logits.append(session.masks(3).low_res)
        assert (logits[0] - logits[1]).abs().max() > 0.1


class TestStoppingAndSaving:
    @pytest.mark.parametrize("exact", [False, True])
    def test_stopped_and_saved_is_uninterrupted(
        self, present: SAM2, clip: np.ndarray, tmp_path: Path, exact: bool
    ) -> None:
        options = VideoOptions(exact_logits=exact)
        predictor, elsewhere = VideoPredictor(present, options), VideoPredictor(copy.deepcopy(present))
        mask = clip[5, ..., 0] > 120

        def asked() -> Session:
            session = prompted(predictor, clip)
            predictor.add_mask(session, np.int64(5), np.uint8(7), mask)
            return session

        whole, stopped = asked(), asked()
        run(predictor.propagate(whole))
        run_to(predictor.propagate(stopped), 9)
        assert stopped.masks(9).object_ids and 10 not in stopped.objects["first"].tracked
        run_to(predictor.resume(stopped), 11)
        path = predictor.save(stopped, tmp_path / "work.sam2kit")
        assert list(tmp_path.iterdir()) == [path]
        again = elsewhere.load(path, clip)
        assert (again.options, again.object_ids) == (predictor.options, ("first", "second", 7))
        assert again.objects["first"].prompts[3].points_xy.tolist() == [[16, 20]]
        assert np.array_equal(again.objects[7].prompts[5].mask, mask)
        assert_same(stopped, again)
        run(elsewhere.resume(again))
        assert_same(whole, again)
        assert run(elsewhere.resume(again)) == []

    @pytest.mark.slow
    def test_saved_goes_on_in_another_process(self, present: SAM2, clip: np.ndarray, tmp_path: Path) -> None:
        predictor = VideoPredictor(present)
        session = prompted(predictor, clip)
        run_to(predictor.propagate(session), 9)
        predictor.save(session, tmp_path / "work.sam2kit")
        save_model(present, tmp_path / "toy.safetensors")
        np.save(tmp_path / "clip.npy", clip)
        code = (
            "import numpy as np, sys, torch\n"
            f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
            f"torch.set_num_threads({torch.get_num_threads()})\n"
            "from sam2kit import VideoPredictor, load_model\n"
            "p = VideoPredictor(load_model('toy.safetensors', 'cpu'))\n"
            "s = p.load('work.sam2kit', np.load('clip.npy'))\n"
            "for _ in p.resume(s): pass\n"
            "np.save('masks.npy', np.stack([s.masks(f).masks for f in range(len(s))]))\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
        run(predictor.resume(session))
        here = np.stack([session.masks(f).masks for f in range(FRAMES)])
        assert np.array_equal(np.load(tmp_path / "masks.npy"), here)

    def test_the_clip_is_found_again(self, predictor: VideoPredictor, clip: np.ndarray, tmp_path: Path) -> None:
        folder = tmp_path / "frames"
        folder.mkdir()
        for t, frame in enumerate(clip[:4]):
            Image.fromarray(frame).save(folder / f"{t}.png")
        session = predictor.open(folder)
        predictor.add_points(session, 0, 1, [16, 20])
        path = predictor.save(session, tmp_path / "a.sam2kit")
        assert len(predictor.load(path)) == 4
        for other, options in ((predictor.open(folder, fps=30), {}), (session, {"with_path": False})):
            predictor.save(other, path, **options)
            with pytest.raises(ValueError, match="does not say where its clip is; give its frames"):
                predictor.load(path)
        assert str(tmp_path).encode() not in path.read_bytes()
        with pytest.raises(FileNotFoundError, match="no folder"):
            predictor.save(session, tmp_path / "none" / "a.sam2kit")

    def test_what_does_not_fit_is_refused(self, predictor: VideoPredictor, clip: np.ndarray, tmp_path: Path) -> None:
        """Damaged and made-up files are in tests/trust."""
        path = predictor.save(prompted(predictor, clip), tmp_path / "work.sam2kit")
        (tmp_path / "junk.sam2kit").write_bytes(b"not a session")
        save_model(predictor.model, tmp_path / "toy.safetensors")
        for file, source, message in (
            (path, clip[:5], "another clip: it needs 20 frames of 64x48"),
            (path, clip[::-1], "another clip"),
            (tmp_path / "junk.sam2kit", clip, "not a session file"),
            (tmp_path / "toy.safetensors", clip, "not a session file"),
        ):
            with pytest.raises(ValueError, match=message):
                predictor.load(file, source)
        with pytest.raises(FileNotFoundError, match="no session file"):
            predictor.load(tmp_path / "none.sam2kit", clip)

    def test_a_stopped_plan_follows_what_happens_to_its_objects(
        self, predictor: VideoPredictor, clip: np.ndarray
    ) -> None:
        session = prompted(predictor, clip)
        run_to(predictor.propagate(session), 10)
        session.clear(3, "first")
        run(predictor.resume(session))
        assert 12 not in session.objects["first"].tracked, "without a prompt nothing is tracked"
        assert 12 in session.objects["second"].tracked
        assert {i for step in predictor.plan(session) for i in step.object_ids} == {"second"}
        run_to(predictor.propagate(session), 10)
        session.remove_object("second")
        assert not session.plan
        predictor.add_points(session, 15, "second", [50, 30])
        run(predictor.resume(session))
        assert not session.objects["second"].tracked, "a removed object does not come back"


class TestStream:
    @pytest.mark.parametrize("length", [None, 6])
    def test_streamed_is_from_file(self, predictor: VideoPredictor, clip: np.ndarray, length: int | None) -> None:
        frames = clip[:length]
        file, stream = predictor.open(frames), predictor.stream(length=length)
        predictor.add_points(file, 0, "a", [12, 20])
        predictor.add_box(file, 4, "b", [30, 24, 50, 44])
        for t, (frame, wanted) in enumerate(zip(frames, predictor.propagate(file, direction="forward"), strict=True)):
            masks = stream.push(frame)
            if t == 0:
                masks = stream.add_points("a", [12, 20])
            if t == 4:
                masks = stream.add_box("b", [30, 24, 50, 44])
            torch.testing.assert_close(masks.low_res, wanted.low_res, atol=1 / 16 + 1e-6, rtol=0)

    @pytest.mark.slow
    def test_memory_stays_constant(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        stream = predictor.stream()
        stream.push(clip[0])
        stream.add_points("a", [12, 20])
        for t in range(1, 60):
            stream.push(clip[t % FRAMES])
        track = stream.session.objects["a"]
        assert len(stream) == 60
        assert len(track.tracked) <= 16
        assert len(track.memories) <= 1 + predictor.model.config.memory.slots
        assert len(stream.session.features) <= 2

    def test_a_frame_that_failed_has_not_come(
        self, predictor: VideoPredictor, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("the device is full")

        stream = predictor.stream()
        stream.push(clip[0])
        stream.add_points("a", [12, 20])
        with monkeypatch.context() as patch:
            patch.setattr(predictor.model, "answer", fail)
            with pytest.raises(RuntimeError, match="full"):
                stream.push(clip[1])
        assert len(stream) == 1
        stream.add_points("b", [40, 34])
        stream.session.clear(0, "a")
        found = stream.push(clip[1])
        assert (found.frame_index, found.object_ids) == (1, ("b",)), "and it goes on after prompts were taken back"

    def test_mistakes(self, predictor: VideoPredictor, clip: np.ndarray, tmp_path: Path) -> None:
        stream = predictor.stream()
        with pytest.raises(ValueError, match="no frame has come yet"):
            stream.add_points("a", [1, 1])
        assert len(stream.push(clip[0])) == 0
        with pytest.raises(ValueError, match="got 32x24 after 64x48"):
            stream.push(clip[1][:24, :32])
        with pytest.raises(ValueError, match="stream cannot be saved"):
            predictor.save(stream.session, tmp_path / "s.sam2kit")
        stream.add_mask("a", clip[0, ..., 0] > 100)
        stream.remove_object("a")
        assert len(stream.push(clip[1])) == 0
        with pytest.raises(ValueError, match="frame 0 of the stream has passed"):
            stream.session.clip.frame(0)


class TestAtHand:
    def test_logits_are_exact_and_their_stored_copy_is_near(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        exact = tracked(VideoPredictor(predictor.model, VideoOptions(exact_logits=True, max_hole_area=0)), clip)
        predictor.options = VideoOptions(max_hole_area=0)
        session = predictor.open(clip)
        first = predictor.add_points(session, 0, 1, [12, 20])
        assert torch.equal(first.low_res, exact.masks(0).low_res), "rounding has no part in it"
        assert repr(first) == "FrameMasks(frame 0, 64x48, objects: [1])"
        for shown in predictor.propagate(session):
            stored = session.masks(shown.frame_index).low_res
            prompt = shown.frame_index == 0
            assert torch.equal(shown.low_res, stored) == prompt, "a prompted frame is stored in full"
            assert (shown.low_res.clamp(-8, 8) - stored).abs().max() <= 1 / 16 + 1e-6

    def test_logits_beyond_what_is_stored(
        self, predictor: VideoPredictor, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        predictor.options = VideoOptions(max_hole_area=0)
        answer = predictor.model.answer

        def louder(*arguments: object, **keywords: object) -> FrameAnswer:
            found = answer(*arguments, **keywords)
            return replace(found, mask_logits=20 + found.mask_logits)

        monkeypatch.setattr(predictor.model, "answer", louder)
        session = predictor.open(clip[:6])
        predictor.add_points(session, 0, 1, [12, 20])
        for shown in predictor.propagate(session):
            assert shown.logits.max() > 15
        assert session.masks(5).logits.max() <= 8


class TestMasksGiven:
    def test_kinds(self) -> None:
        wanted = np.zeros((48, 64), bool)
        wanted[8:30, 10:40] = True
        for kind in (bool, np.uint8, np.int64, np.float32, np.float64):
            assert np.array_equal(binary_mask(wanted.astype(kind)), wanted)
        assert np.array_equal(binary_mask(255 * wanted.astype(np.uint8)), wanted)
        for dtype in (torch.bool, torch.uint8, torch.bfloat16, torch.float16):
            assert np.array_equal(binary_mask(torch.from_numpy(wanted).to(dtype)), wanted)
        assert binary_mask(torch.ones(4, 4, requires_grad=True)).all()
        assert binary_mask([[0.49, 0.5], [0.02, 0.98]]).tolist() == [[False, True], [False, True]]

    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            (np.linspace(-5, 5, 48 * 64).reshape(48, 64), "from -5 to 5; of mask logits give logits > 0"),
            (np.eye(48, 64) * 255, "got values from 0 to 255; divide by their largest, such as 255"),
            (np.arange(48 * 64).reshape(48, 64) % 4, r"got 4 values from 0 to 3; choose one object, such as mask == 3"),
            (np.full((48, 64), np.nan), "not finite"),
            (np.full((48, 64), "a"), "bool, or probabilities"),
            (np.zeros((48, 64), complex), "bool, or probabilities"),
        ],
    )
    def test_what_is_no_mask(self, predictor: VideoPredictor, clip: np.ndarray, mask: np.ndarray, message: str) -> None:
        session = predictor.open(clip)
        with pytest.raises(ValueError, match=message):
            predictor.add_mask(session, 0, 1, mask)
        assert not session.objects


class TestPrompts:
    def test_ids_that_cannot_be_saved_are_refused_at_once(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        for object_id in (None, 1.5, (1, 2), b"cup", frozenset()):
            with pytest.raises(ValueError, match="a text or a whole number, which can be saved"):
                predictor.add_points(session, 0, object_id, [12, 20])
        predictor.add_points(session, 0, np.str_("cup"), [12, 20])
        predictor.add_points(session, 0, np.int64(3), [12, 20])
        assert [type(i) for i in session.object_ids] == [str, int]

    def test_corrected_frames_become_conditioning_frames(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = tracked(predictor, clip)
        found = session.masks(9).low_res
        corrected = predictor.add_points(session, 9, 1, [40, 30], [0]).low_res
        assert torch.equal(session.clear(9, 1).low_res, found), "taken back, the tracked answer returns"
        assert 9 not in session.objects[1].prompts
        predictor.add_points(session, 9, 1, [40, 30], [0])
        run(predictor.propagate(session))
        assert torch.equal(session.masks(9).low_res, corrected)
        assert set(session.objects[1].prompted) == {0, 9}

    def test_official_options_discard_corrections(self, present: SAM2, clip: np.ndarray) -> None:
        predictor = VideoPredictor(present, VideoOptions.official())
        session = tracked(predictor, clip)
        found = session.masks(9).low_res
        corrected = predictor.add_points(session, 9, 1, [40, 30], [0]).low_res
        assert not torch.equal(found, corrected)
        run(predictor.propagate(session, 9, "forward"))
        assert not torch.equal(session.masks(9).low_res, corrected)
        session.clear(0, 1)
        predictor.add_points(session, 0, 1, [50, 30])
        assert set(session.objects[1].prompted) == {0}, "a cleared frame begins anew"
        run(predictor.propagate(session, frames=2))

    def test_a_second_correction_looks_the_same_way(self, present: SAM2, clip: np.ndarray) -> None:
        """A frame that was tracked backwards recalls later frames, also after a first correction."""
        predictor = VideoPredictor(present, VideoOptions.official())
        session = predictor.open(clip)
        predictor.add_points(session, 12, 1, [12, 20])
        run(predictor.propagate(session, 12, "backward"))
        for click in ([40, 30], [50, 10]):
            session.objects[1].memories.clear()
            predictor.add_points(session, 5, 1, click, [0])
            assert set(session.objects[1].memories) == {12, 6, 7, 8, 9, 10, 11}

    def test_replaced_prompts_leave_no_trace(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session, fresh = predictor.open(clip), predictor.open(clip)
        predictor.add_points(session, 0, 1, [50, 40])
        replaced = predictor.add_points(session, 0, 1, [12, 20], replace=True)
        asked = predictor.add_points(fresh, 0, 1, [12, 20])
        assert torch.equal(replaced.low_res, asked.low_res)
        added = predictor.add_points(session, 0, 1, [30, 40], [0])
        assert session.objects[1].prompts[0].points_xy.tolist() == [[12, 20], [30, 40]]
        assert not torch.equal(added.low_res, asked.low_res)

    def test_boxes_and_masks(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        predictor.add_points(session, 0, 1, [12, 20])
        predictor.add_box(session, 0, 1, [2, 10, 30, 30])
        predictor.add_box(session, 0, 1, [4, 10, 30, 30])
        prompt = session.objects[1].prompts[0]
        assert prompt.box_xyxy.tolist() == [4, 10, 30, 30]
        assert len(prompt.points_xy) == 1
        given = np.zeros((48, 64), bool)
        given[8:40, 16:48] = True
        shown = predictor.add_mask(session, 0, 1, given).mask(1)
        assert np.array_equal(shown, given), "in full, not as coarse as the model holds it"
        assert session.objects[1].prompts[0].box_xyxy is None
        empty = predictor.add_mask(session, 1, 2, np.zeros((48, 64), bool))
        assert empty.object_scores[-1] < 0
        assert not empty.mask(2).any()

    def test_given_masks_are_shown_in_full_and_the_model_sees_them_as_before(
        self, present: SAM2, clip: np.ndarray, tmp_path: Path
    ) -> None:
        given = np.random.default_rng(0).random((48, 64)) > 0.5
        shown, tracked = [], []
        for options in (VideoOptions(), VideoOptions(keeps_given_masks=False), VideoOptions.official()):
            predictor = VideoPredictor(present, options)
            session = predictor.open(clip)
            shown.append(predictor.add_mask(session, 0, 1, given).mask(1))
            loaded = predictor.load(predictor.save(session, tmp_path / "session.safetensors"), clip)
            assert np.array_equal(loaded.masks(0).masks[0], shown[-1])
            tracked.append(torch.cat([frame.low_res for frame in predictor.propagate(session)]))
        assert np.array_equal(shown[0], given) and not np.array_equal(shown[1], given)
        assert np.array_equal(shown[1], shown[2])
        assert torch.equal(tracked[0], tracked[1])

    def test_objects_come_and_go_at_any_time(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        alone = predictor.open(clip)
        predictor.add_points(alone, 0, "stays", [12, 20])
        run(predictor.propagate(alone))
        session = predictor.open(clip)
        predictor.add_points(session, 0, "goes", [50, 34])
        predictor.add_points(session, 0, "stays", [12, 20])
        run_to(predictor.propagate(session), 4)
        session.remove_object("goes")
        run(predictor.resume(session))
        assert session.object_ids == ("stays",)
        for frame in range(FRAMES):
            torch.testing.assert_close(session.masks(frame).low_res, alone.masks(frame).low_res, atol=0.2, rtol=0)
        predictor.add_points(session, 12, "late", [30, 34])
        run(predictor.propagate(session))
        assert session.masks(0).object_ids == ("stays", "late")

    def test_mistakes_leave_nothing_behind(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        points, box, whole = predictor.add_points, predictor.add_box, np.zeros((5, 5), bool)
        for error, message, call in (
            (ValueError, "nothing to track yet", lambda: predictor.plan(session)),
            (
                IndexError,
                "frame 20 is outside the clip; its frames are 0 to 19",
                lambda: points(session, 20, 1, [1, 1]),
            ),
            (ValueError, "lies outside the 64x48", lambda: points(session, 0, 1, [100, 1])),
            (ValueError, "clip's size", lambda: predictor.add_mask(session, 0, 1, whole)),
            (ValueError, "four numbers", lambda: box(session, 0, 1, [1, 2, 3])),
            (ValueError, "empty prompt", lambda: points(session, 0, 1, [])),
            (KeyError, "no object 1; objects of this session: none yet", lambda: session.remove_object(1)),
            *((ValueError, "label", lambda v=v: points(session, 0, 1, [5, 5], v)) for v in ([0.6], [2], [1, 0], "x")),
            *((ValueError, "whole number", lambda v=v: points(session, v, 1, [5, 5])) for v in (1.0, "1", None)),
        ):
            with pytest.raises(error, match=message):
                call()
        assert session.object_ids == ()
        points(session, 0, 1, [1, 1])
        with pytest.raises(ValueError, match="frames must be 0 or more"):
            predictor.plan(session, frames=-1)
        with pytest.raises(ValueError, match="direction"):
            predictor.plan(session, direction="sideways")
        with pytest.raises(KeyError, match="object 2 has no mask on frame 0"):
            session.masks(0).mask(2)
        session.clear(0, 1)
        with pytest.raises(ValueError, match="nothing to track yet"):
            run(predictor.propagate(session))

    def test_weights_of_pictures_answer_and_do_not_track(self, present: SAM2, clip: np.ndarray) -> None:
        present.memory_is_trained = False
        predictor = VideoPredictor(present)
        with pytest.raises(ValueError, match="only know pictures"):
            predictor.plan(prompted(predictor, clip))


class TestFrameMasks:
    def test_shapes(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = prompted(predictor, clip)
        run(predictor.propagate(session, 8, frames=1))
        masks = session.masks(8)
        assert (masks.logits.shape, masks.masks.dtype, masks.low_res.dtype) == ((2, 48, 64), bool, torch.float32)
        assert [i for i, _ in masks] == ["first", "second"]
        with pytest.raises(IndexError):
            session.masks(99)

    def test_detections(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        """An object keeps its number, and supervision's annotators take them as they are."""
        session = predictor.open(clip)
        whole = np.ones((48, 64), bool)
        predictor.add_mask(session, 5, "cup", whole)
        predictor.add_mask(session, 0, 5, whole)
        assert session.masks(0).to_detections().tracker_id.tolist() == [2]
        assert session.masks(5).to_detections().tracker_id.tolist() == [1]
        predictor.add_mask(session, 0, "cup", ~whole)
        assert session.masks(0).to_detections().tracker_id.tolist() == [2], "an empty mask is nothing to detect"
        found = predictor.add_mask(session, 0, "cup", np.indices((48, 64))[1] < 20).to_detections()
        assert (found.class_id.tolist(), found.tracker_id.tolist()) == ([0, 1], [1, 2])
        assert found.data["class_name"].tolist() == ["cup", "Object 5"]
        for annotator in (supervision.MaskAnnotator(), supervision.LabelAnnotator(), supervision.BoxAnnotator()):
            assert annotator.annotate(clip[0].copy(), found).shape == (48, 64, 3)

    def test_exclusive_masks_share_no_pixel(self, present: SAM2, clip: np.ndarray) -> None:
        predictor = VideoPredictor(present, VideoOptions(exclusive=True))
        session = predictor.open(clip)
        left, right = np.zeros((48, 64), bool), np.zeros((48, 64), bool)
        left[:, :40], right[:, 24:] = True, True
        predictor.add_mask(session, 0, 1, left)
        masks = predictor.add_mask(session, 0, 2, right).masks
        assert masks.any(axis=(1, 2)).all()
        assert masks.sum(axis=0).max() == 1
        session.options = VideoOptions()
        assert session.masks(0).masks.sum(axis=0).max() == 2, "they overlap"

    def test_masks_grow_and_shrink_and_the_model_does_not_see_it(self, present: SAM2, clip: np.ndarray) -> None:
        plain = VideoOptions(exact_logits=True)
        predictor = VideoPredictor(present, plain)
        session = predictor.open(clip)
        left, right = np.zeros((2, 48, 64), bool)
        left[10:30, 8:24], right[10:30, 30:50] = True, True
        for number, mask in ((1, left), (2, right)):
            predictor.add_mask(session, 0, number, mask)
        before = session.masks(0)
        session.options = plain.changed(grow=4, max_hole_area=20, feather=None)
        assert session.options.feather == 0 and session.options.remembered_hole_area == plain.max_hole_area
        for was, now in zip(before.masks, session.masks(0).masks, strict=True):
            assert np.array_equal(now, grow_mask(was, 4)) and now.sum() > was.sum()
        half = session.masks(0).masks_at((24, 32))
        assert np.array_equal(half[0], grow_mask(before.masks_at((24, 32))[0], 2)), "scaled with the view"
        assert session.masks(0).masks.sum(axis=0).max() == 2
        session.options = session.options.changed(exclusive=True)
        apart = session.masks(0).masks
        assert apart.sum(axis=0).max() == 1 and (apart & ~before.masks).any(), "grown, but not over another"
        session.options = session.options.changed(grow=-3, exclusive=False)
        assert np.array_equal(session.masks(0).masks[0], grow_mask(before.masks[0], -3))
        list(predictor.propagate(session))
        again = predictor.open(clip)
        for number, mask in ((1, left), (2, right)):
            predictor.add_mask(again, 0, number, mask)
        list(predictor.propagate(again))
        for number in (1, 2):
            for frame, result in again.objects[number].tracked.items():
                assert torch.equal(result.low_res(), session.objects[number].tracked[frame].low_res())


@pytest.mark.parametrize(
    ("now", "prompted", "tracked", "settings", "maps", "pointers"),
    [
        (
            20, [0], range(1, 20), (7, 16, False),
            ((0, 6), (14, 5), (15, 4), (16, 3), (17, 2), (18, 1), (19, 0)),
            ((0, 20), *((20 - d, d) for d in range(1, 16))),
        ),
        (4, [8], {5, 6, 7, 3}, (3, 8, True), ((8, 2), (6, 1), (5, 0)), ((8, 4), (5, 1), (6, 2), (7, 3))),
        (2, [5], (), (7, 8, False), ((5, 6),), ()),  # the future lends its map only
    ],
    ids=["steady state", "backwards", "future"],
)  # fmt: skip
def test_choosing_memories(now: int, prompted: Any, tracked: Any, settings: Any, maps: Any, pointers: Any) -> None:
    slots, reach, reverse = settings
    chosen = choose_memories(now, prompted, tracked, slots=slots, pointer_frames=reach, reverse=reverse)
    assert (chosen.maps, chosen.pointers) == (maps, pointers)
