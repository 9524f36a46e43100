"""Video sessions: what people expect of prompts, corrections, propagation, cancelling, saving and streaming."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import supervision
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from sam2kit.model.memory_bank import choose_memories
from sam2kit.model.sam2 import SAM2, FrameAnswer
from sam2kit.predict.frame_masks import FrameMasks, VideoOptions
from sam2kit.predict.session import VideoSession
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import save_model
from tests.predict.conftest import FRAMES


@pytest.fixture
def predictor(present: SAM2) -> VideoPredictor:
    return VideoPredictor(present)


def prompted(predictor: VideoPredictor, clip: np.ndarray) -> VideoSession:
    """Two objects that begin on different frames."""
    session = predictor.open(clip)
    predictor.add_points(session, 3, "first", [16, 20])
    predictor.add_box(session, 8, "second", [26, 26, 42, 42])
    return session


def everything(session: VideoSession) -> dict[tuple[int, object], torch.Tensor]:
    """All logits of a session."""
    shown = [session.masks(f) for f in range(len(session))]
    return {(m.frame_index, i): logits for m in shown for i, logits in zip(m.object_ids, m.low_res, strict=True)}


def assert_same(one: VideoSession, other: VideoSession, tolerance: float = 0.0) -> None:
    a, b = everything(one), everything(other)
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], atol=tolerance, rtol=0, msg=lambda m, key=key: f"{key}: {m}")


def run(frames: object) -> list[FrameMasks]:
    return list(frames)  # type: ignore[call-overload]


def tracked(predictor: VideoPredictor, clip: np.ndarray) -> VideoSession:
    """Object 1, clicked on frame 0 and tracked to the end."""
    session = predictor.open(clip)
    predictor.add_points(session, 0, 1, [12, 20])
    run(predictor.propagate(session))
    return session


class TestPropagation:
    def test_runs_both_ways_from_the_prompts(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = prompted(predictor, clip)
        order = [m.frame_index for m in predictor.propagate(session)]
        assert order == [*range(3, FRAMES), *range(7, -1, -1)]
        for frame in range(FRAMES):
            assert set(session.masks(frame).object_ids) == {"first", "second"}

    def test_each_object_begins_at_its_own_prompt(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = prompted(predictor, clip)
        seen = {m.frame_index: m.object_ids for m in predictor.propagate(session, direction="forward")}
        assert seen[7] == ("first",)
        assert seen[8] == ("first", "second")

    def test_start_and_number_of_frames(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = prompted(predictor, clip)
        assert [m.frame_index for m in predictor.propagate(session, 5, "forward", 3)] == [5, 6, 7, 8]
        assert [m.frame_index for m in predictor.propagate(session, 2, "backward")] == [2, 1, 0]
        assert [m.frame_index for m in predictor.propagate(session, 0, "backward")] == [0]
        assert [m.frame_index for m in predictor.propagate(session, 10, "both", 2)] == [10, 11, 12, 9, 8]

    def test_each_object_goes_as_far_as_it_would_alone(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = prompted(predictor, clip)
        for direction, spans in (("both", ((0, 7), (4, 12))), ("backward", ((0, 3), (4, 8)))):
            steps = predictor.plan(session, direction=direction, frames=4)
            for name, (first, last) in zip(("first", "second"), spans, strict=True):
                assert sorted(s.frame for s in steps if name in s.object_ids) == list(range(first, last + 1))

    def test_the_batch_over_objects_is_the_loop_over_objects(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        def ask(session: VideoSession, names: str) -> None:
            for i, name in enumerate("abc"):
                if name in names:
                    predictor.add_points(session, 2, name, [10 + 15 * i, 20])

        together = predictor.open(clip)
        ask(together, "abc")
        run(predictor.propagate(together))
        for name in "abc":
            alone = predictor.open(clip)
            ask(alone, name)
            run(predictor.propagate(alone))
            for frame in range(FRAMES):
                ours, theirs = together.masks(frame), alone.masks(frame)
                row = ours.object_ids.index(name)
                # rounded to 1/16, a last digit may tip over
                torch.testing.assert_close(ours.low_res[row], theirs.low_res[0], atol=0.2, rtol=0)
                assert np.mean(ours.masks[row] != theirs.masks[0]) < 0.005

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
        held, all_held = (len(s.tracks["first"].memories) for s in sessions)
        assert held <= 2 + 2 * present.config.memory.slots < all_held

    def test_propagation_from_the_prompts_depends_on_them_alone(
        self, predictor: VideoPredictor, clip: np.ndarray
    ) -> None:
        once, twice = prompted(predictor, clip), prompted(predictor, clip)
        run(predictor.propagate(once))
        run(predictor.propagate(twice, 0, "forward"))
        run(predictor.propagate(twice))
        assert_same(once, twice)

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
        for box in ([4, 12, 16, 28], [40, 26, 60, 42]):
            session = predictor.open(clip)
            mask = np.zeros((48, 64), bool)
            mask[box[1] : box[3], box[0] : box[2]] = True
            predictor.add_mask(session, 0, 1, mask)
            run(predictor.propagate(session, frames=3))
            logits.append(session.masks(3).low_res)
        assert (logits[0] - logits[1]).abs().max() > 0.1


class TestStoppingAndSaving:
    def test_resumed_is_uninterrupted(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        whole, stopped = prompted(predictor, clip), prompted(predictor, clip)
        run(predictor.propagate(whole))
        for masks in predictor.propagate(stopped):
            if masks.frame_index == 9:
                break
        assert stopped.masks(9).object_ids
        assert not stopped.masks(10).object_ids
        for masks in predictor.resume(stopped):
            if masks.frame_index == 5:
                break
        run(predictor.resume(stopped))
        assert_same(whole, stopped)
        assert run(predictor.resume(stopped)) == []

    @pytest.mark.parametrize("exact", [False, True])
    def test_saved_is_uninterrupted(self, present: SAM2, clip: np.ndarray, tmp_path: Path, exact: bool) -> None:
        predictor = VideoPredictor(present, VideoOptions(exact_logits=exact))
        session = prompted(predictor, clip)
        predictor.add_mask(session, 5, 7, clip[5, ..., 0] > 120)
        for masks in predictor.propagate(session):
            if masks.frame_index == 11:
                break
        path = predictor.save(session, tmp_path / "work.sam2kit")
        assert list(tmp_path.iterdir()) == [path]
        again = predictor.load(path, clip)
        assert again.options == session.options
        assert again.tracks["first"].prompts[3].points_xy.tolist() == [[16, 20]]
        assert np.array_equal(again.tracks[7].prompts[5].mask, clip[5, ..., 0] > 120)
        assert_same(session, again)
        run(predictor.resume(session))
        run(predictor.resume(again))
        assert_same(session, again)

    def test_numbers_of_numpy_can_be_saved(self, predictor: VideoPredictor, clip: np.ndarray, tmp_path: Path) -> None:
        session = predictor.open(clip)
        predictor.add_points(session, np.int64(3), np.uint8(7), np.array([16, 20]), np.array([1]))
        run(predictor.propagate(session))
        predictor.add_points(session, 9, 7, [5, 5], [0])
        again = predictor.load(predictor.save(session, tmp_path / "a.sam2kit"), clip)
        assert again.object_ids == (7,)
        for one in (session, again):
            run(predictor.propagate(one))
        assert_same(session, again)

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
            with pytest.raises(ValueError, match="does not say where its clip is"):
                predictor.load(path)
        assert str(tmp_path).encode() not in path.read_bytes()
        with pytest.raises(FileNotFoundError, match="no folder"):
            predictor.save(session, tmp_path / "none" / "a.sam2kit")

    def test_damaged_files_are_refused(self, predictor: VideoPredictor, clip: np.ndarray, tmp_path: Path) -> None:
        session = prompted(predictor, clip)
        predictor.add_mask(session, 5, 7, clip[5, ..., 0] > 120)
        run(predictor.propagate(session, frames=2))
        path = predictor.save(session, tmp_path / "good.sam2kit")
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            content = json.loads(file.metadata()["session"])

        def refused(change: Callable[[dict, dict], object]) -> None:
            stated, kept = copy.deepcopy(content), dict(tensors)
            change(stated, kept)
            save_file(kept, tmp_path / "bad.sam2kit", {"format": "sam2kit session 1", "session": json.dumps(stated)})
            with pytest.raises(ValueError, match=r"damaged|another model|another clip"):
                predictor.load(tmp_path / "bad.sam2kit", clip)

        for key in content:
            refused(lambda stated, _, key=key: stated.pop(key))
            refused(lambda stated, _, key=key: stated.update({key: None if key != "pointer_frames" else "x"}))
        for name in tensors:
            refused(lambda _, kept, name=name: kept.pop(name))
        refused(lambda stated, _: stated["options"].update(memory_dtype="torch.int8"))
        refused(lambda stated, _: stated["options"].update(unknown=1))
        refused(lambda stated, _: stated["plan"].append([10**6, False, ["first"], 0]))
        refused(lambda stated, _: stated["tracks"][0].update(id=["a"]))
        refused(lambda stated, _: stated["tracks"][0]["prompts"].update({"99": {"points": [], "labels": []}}))
        refused(lambda _, kept: kept.update({"0/tracked/logits": kept["0/tracked/logits"][:50]}))
        refused(lambda _, kept: kept.update({"0/prompted/logits": kept["0/prompted/logits"].repeat(2, 1, 1)}))
        refused(lambda _, kept: kept.update({"0/prompted/logits": kept["0/prompted/logits"].double()}))

    def test_saved_goes_on_in_another_process(self, present: SAM2, clip: np.ndarray, tmp_path: Path) -> None:
        predictor = VideoPredictor(present)
        session = prompted(predictor, clip)
        for masks in predictor.propagate(session):
            if masks.frame_index == 9:
                break
        predictor.save(session, tmp_path / "work.sam2kit")
        save_model(present, tmp_path / "toy.safetensors")
        np.save(tmp_path / "clip.npy", clip)
        code = (
            "import numpy as np, torch\n"
            f"torch.set_num_threads({torch.get_num_threads()})\n"
            "from sam2kit import VideoPredictor, load_model\n"
            "p = VideoPredictor(load_model('toy.safetensors', 'cpu'))\n"
            "s = p.load('work.sam2kit', np.load('clip.npy'))\n"
            "for _ in p.resume(s): pass\n"
            "np.save('masks.npy', np.stack([s.masks(f).masks for f in range(len(s))]))\n"
        )
        root = Path(__file__).parents[2]
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=_with_path(root))
        run(predictor.resume(session))
        assert np.array_equal(
            np.load(tmp_path / "masks.npy"), np.stack([session.masks(f).masks for f in range(FRAMES)])
        )

    def test_what_does_not_fit_is_refused(self, predictor: VideoPredictor, clip: np.ndarray, tmp_path: Path) -> None:
        session = prompted(predictor, clip)
        path = predictor.save(session, tmp_path / "work.sam2kit")
        with pytest.raises(ValueError, match="another clip: it needs 20 frames of 64x48"):
            predictor.load(path, clip[:5])
        with pytest.raises(ValueError, match="another clip"):
            predictor.load(path, clip[::-1])
        with pytest.raises(ValueError, match="does not say where its clip is; give its frames"):
            predictor.load(path)
        with pytest.raises(FileNotFoundError, match="no session file"):
            predictor.load(tmp_path / "none.sam2kit", clip)
        (tmp_path / "junk.sam2kit").write_bytes(b"not a session")
        with pytest.raises(ValueError, match="not a session file"):
            predictor.load(tmp_path / "junk.sam2kit", clip)
        save_model(predictor.model, tmp_path / "toy.safetensors")
        with pytest.raises(ValueError, match="not a session file"):
            predictor.load(tmp_path / "toy.safetensors", clip)


def _with_path(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root)}


class TestPlans:
    """A plan that was stopped follows what happens to its objects."""

    def stopped(self, predictor: VideoPredictor, clip: np.ndarray) -> VideoSession:
        session = prompted(predictor, clip)
        for masks in predictor.propagate(session):
            if masks.frame_index == 10:
                return session
        raise AssertionError("frame 10 was not reached")

    def test_without_a_prompt_nothing_is_tracked(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = self.stopped(predictor, clip)
        session.clear(3, "first")
        run(predictor.resume(session))
        assert 12 not in session.tracks["first"].tracked
        assert 12 in session.tracks["second"].tracked
        with pytest.raises(ValueError, match="'first' has no prompt left"):
            predictor.plan(session)

    def test_a_removed_object_does_not_come_back(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = self.stopped(predictor, clip)
        session.remove_object("first")
        predictor.add_points(session, 15, "first", [50, 30])
        run(predictor.resume(session))
        assert not session.tracks["first"].tracked
        session.remove_object("first")
        session.remove_object("second")
        assert not session.plan

    def test_planning_changes_nothing(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = prompted(predictor, clip)
        assert len(predictor.plan(session)) == FRAMES - 3 + 8
        assert session.run == 0
        assert not session.plan


class TestStream:
    def test_streamed_is_from_file(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        file = predictor.open(clip)
        predictor.add_points(file, 0, "a", [12, 20])
        predictor.add_box(file, 4, "b", [30, 24, 50, 44])
        wanted = [m.low_res for m in predictor.propagate(file, direction="forward")]
        stream = predictor.stream()
        got = []
        for t, frame in enumerate(clip):
            masks = stream.push(frame)
            if t == 0:
                masks = stream.add_points("a", [12, 20])
            if t == 4:
                masks = stream.add_box("b", [30, 24, 50, 44])
            got.append(masks.low_res)
        for ours, theirs in zip(got, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1 / 16 + 1e-6, rtol=0)

    def test_a_stream_goes_on_after_prompts_were_taken_back(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        stream = predictor.stream()
        stream.push(clip[0])
        stream.add_points("a", [12, 20])
        stream.add_points("b", [40, 34])
        stream.session.clear(0, "a")
        assert stream.push(clip[1]).object_ids == ("b",)

    def test_a_short_stream_of_known_length(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        file = predictor.open(clip[:6])
        predictor.add_points(file, 0, "a", [12, 20])
        wanted = [m.low_res for m in predictor.propagate(file, direction="forward")]
        stream = predictor.stream(length=6)
        for t in range(6):
            masks = stream.push(clip[t])
            masks = stream.add_points("a", [12, 20]) if t == 0 else masks
            assert torch.equal(masks.low_res, wanted[t])

    def test_memory_stays_constant(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        stream = predictor.stream()
        stream.push(clip[0])
        stream.add_points("a", [12, 20])
        for t in range(1, 60):
            stream.push(clip[t % FRAMES])
        track = stream.session.tracks["a"]
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
        assert stream.push(clip[1]).frame_index == 1

    def test_what_a_stream_cannot_do_is_said(self, predictor: VideoPredictor, clip: np.ndarray, tmp_path: Path) -> None:
        stream = predictor.stream()
        stream.push(clip[0])
        with pytest.raises(ValueError, match="stream cannot be saved"):
            predictor.save(stream.session, tmp_path / "s.sam2kit")
        stream.push(clip[1])
        with pytest.raises(ValueError, match="frame 0 of the stream has passed"):
            stream.session.clip.frame(0)

    def test_mistakes(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        stream = predictor.stream()
        with pytest.raises(ValueError, match="no frame has come yet"):
            stream.add_points("a", [1, 1])
        assert len(stream.push(clip[0])) == 0
        with pytest.raises(ValueError, match="got 32x24 after 64x48"):
            stream.push(clip[1][:24, :32])
        stream.add_mask("a", clip[0, ..., 0] > 100)
        stream.remove_object("a")
        assert len(stream.push(clip[1])) == 0


class TestAtHand:
    def test_logits_are_exact_and_their_stored_copy_is_near(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        exact = tracked(VideoPredictor(predictor.model, VideoOptions(exact_logits=True, max_hole_area=0)), clip)
        predictor.options = VideoOptions(max_hole_area=0)
        session = predictor.open(clip)
        first = predictor.add_points(session, 0, 1, [12, 20])
        assert torch.equal(first.low_res, exact.masks(0).low_res), "rounding has no part in it"
        for shown in predictor.propagate(session):
            stored = session.masks(shown.frame_index).low_res
            if shown.frame_index == 0:
                assert torch.equal(shown.low_res, stored), "a prompted frame is stored in full"
            else:
                assert not torch.equal(shown.low_res, stored)
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
        session = tracked(predictor, clip)
        for shown in predictor.propagate(session):
            assert shown.logits.max() > 15
        assert session.masks(5).logits.max() <= 8

    def test_what_a_notebook_shows_is_short(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        shown = repr(predictor.add_points(session, 0, "cup", [12, 20]))
        assert shown == "FrameMasks(frame 0, 64x48, objects: ['cup'])"


class TestMasksGiven:
    @pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32, np.float64])
    def test_kinds(self, predictor: VideoPredictor, clip: np.ndarray, kind: type) -> None:
        wanted = np.zeros((48, 64), bool)
        wanted[8:30, 10:40] = True
        session = predictor.open(clip)
        predictor.add_mask(session, 0, 1, wanted.astype(kind))
        assert np.array_equal(session.tracks[1].prompts[0].mask, wanted)

    def test_probabilities_are_cut_at_a_half(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session, soft = predictor.open(clip), np.full((48, 64), 0.02, np.float32)
        soft[8:30, 10:40] = 0.98
        soft[8, 10] = 0.5
        predictor.add_mask(session, 0, 1, soft)
        assert np.array_equal(session.tracks[1].prompts[0].mask, soft >= 0.5)
        predictor.add_mask(session, 1, 1, np.array([0, 255], np.uint8)[(soft > 0.5).astype(int)])
        assert session.tracks[1].prompts[1].mask.sum() == 22 * 30 - 1

    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            (np.linspace(-5, 5, 48 * 64).reshape(48, 64), "from -5 to 5; of mask logits give logits > 0"),
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
        assert not session.tracks


@pytest.mark.parametrize("object_id", [None, 1.5, (1, 2), b"cup", frozenset()])
def test_ids_that_cannot_be_saved_are_refused_at_once(
    predictor: VideoPredictor, clip: np.ndarray, object_id: object
) -> None:
    session = predictor.open(clip)
    with pytest.raises(ValueError, match="a text or a whole number, which can be saved"):
        predictor.add_points(session, 0, object_id, [12, 20])
    predictor.add_points(session, 0, np.str_("cup"), [12, 20])
    predictor.add_points(session, 0, np.int64(3), [12, 20])
    assert [type(i) for i in session.object_ids] == [str, int]


class TestPrompts:
    def test_corrections_stick(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = tracked(predictor, clip)
        corrected = predictor.add_points(session, 9, 1, [40, 30], [0]).low_res
        run(predictor.propagate(session))
        assert torch.equal(session.masks(9).low_res, corrected)
        assert set(session.tracks[1].prompted) == {0, 9}

    def test_the_official_habit_loses_them(self, present: SAM2, clip: np.ndarray) -> None:
        predictor = VideoPredictor(present, VideoOptions.official())
        session = predictor.open(clip)
        predictor.add_points(session, 0, 1, [12, 20])
        run(predictor.propagate(session, 0, "forward"))
        found = session.masks(9).low_res
        corrected = predictor.add_points(session, 9, 1, [40, 30], [0]).low_res
        assert not torch.equal(found, corrected)
        run(predictor.propagate(session, 9, "forward"))
        assert not torch.equal(session.masks(9).low_res, corrected)

    def test_a_second_correction_looks_the_same_way(self, present: SAM2, clip: np.ndarray) -> None:
        """A frame that was tracked backwards recalls later frames, also after a first correction."""
        predictor = VideoPredictor(present, VideoOptions.official())
        session = predictor.open(clip)
        predictor.add_points(session, 12, 1, [12, 20])
        run(predictor.propagate(session, 12, "backward"))
        for click in ([40, 30], [50, 10]):
            session.tracks[1].memories.clear()
            predictor.add_points(session, 5, 1, click, [0])
            assert set(session.tracks[1].memories) == {12, 6, 7, 8, 9, 10, 11}

    def test_the_first_predictor_keeps_them_without_prompting_from_them(self, present: SAM2, clip: np.ndarray) -> None:
        predictor = VideoPredictor(present, VideoOptions(corrections="recent"))
        session = tracked(predictor, clip)
        predictor.add_points(session, 9, 1, [40, 30], [0])
        corrected = session.masks(9).low_res
        run(predictor.propagate(session))
        assert torch.equal(session.masks(9).low_res, corrected)
        assert set(session.tracks[1].prompted) == {0}
        session.clear(9, 1)
        run(predictor.propagate(session))
        assert not torch.equal(session.masks(9).low_res, corrected)

    def test_a_cleared_frame_begins_anew(self, present: SAM2, clip: np.ndarray) -> None:
        predictor = VideoPredictor(present, VideoOptions.official())
        session = tracked(predictor, clip)
        session.clear(0, 1)
        predictor.add_points(session, 0, 1, [50, 30])
        assert set(session.tracks[1].prompted) == {0}
        run(predictor.propagate(session))

    def test_cleared_corrections_give_back_what_was_tracked(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = tracked(predictor, clip)
        found = session.masks(9).low_res
        predictor.add_points(session, 9, 1, [40, 30], [0])
        assert torch.equal(session.clear(9, 1).low_res, found)
        assert 9 not in session.tracks[1].prompts

    def test_replaced_prompts_leave_no_trace(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session, fresh = predictor.open(clip), predictor.open(clip)
        predictor.add_points(session, 0, 1, [50, 40])
        replaced = predictor.add_points(session, 0, 1, [12, 20], replace=True)
        asked = predictor.add_points(fresh, 0, 1, [12, 20])
        assert torch.equal(replaced.low_res, asked.low_res)
        added = predictor.add_points(session, 0, 1, [30, 40], [0])
        assert session.tracks[1].prompts[0].points_xy.tolist() == [[12, 20], [30, 40]]
        assert not torch.equal(added.low_res, asked.low_res)

    def test_boxes_and_masks(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        predictor.add_points(session, 0, 1, [12, 20])
        predictor.add_box(session, 0, 1, [2, 10, 30, 30])
        predictor.add_box(session, 0, 1, [4, 10, 30, 30])
        prompt = session.tracks[1].prompts[0]
        assert prompt.box_xyxy.tolist() == [4, 10, 30, 30]
        assert len(prompt.points_xy) == 1
        given = np.zeros((48, 64), bool)
        given[8:40, 16:48] = True
        shown = predictor.add_mask(session, 0, 1, given).mask(1)
        assert np.mean(shown != given) < 0.05
        assert session.tracks[1].prompts[0].box_xyxy is None
        empty = predictor.add_mask(session, 1, 2, np.zeros((48, 64), bool))
        assert empty.object_scores[-1] < 0
        assert not empty.mask(2).any()

    def test_objects_come_and_go_at_any_time(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        alone = predictor.open(clip)
        predictor.add_points(alone, 0, "stays", [12, 20])
        run(predictor.propagate(alone))
        session = predictor.open(clip)
        predictor.add_points(session, 0, "goes", [50, 34])
        predictor.add_points(session, 0, "stays", [12, 20])
        steps = predictor.propagate(session)
        for _ in range(5):
            next(steps)
        session.remove_object("goes")
        run(predictor.resume(session))
        assert session.object_ids == ("stays",)
        for frame in range(FRAMES):
            torch.testing.assert_close(session.masks(frame).low_res, alone.masks(frame).low_res, atol=0.2, rtol=0)
        predictor.add_points(session, 12, "late", [30, 34])
        run(predictor.propagate(session))
        assert session.masks(0).object_ids == ("stays", "late")
        session.reset()
        assert session.object_ids == ()

    def test_mistakes_leave_nothing_behind(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        with pytest.raises(ValueError, match="nothing to track yet"):
            run(predictor.propagate(session))
        with pytest.raises(IndexError, match="frame 20 is outside the clip; its frames are 0 to 19"):
            predictor.add_points(session, 20, 1, [1, 1])
        with pytest.raises(ValueError, match="lies outside the 64x48"):
            predictor.add_points(session, 0, 1, [100, 1])
        with pytest.raises(ValueError, match="clip's size"):
            predictor.add_mask(session, 0, 1, np.zeros((5, 5), bool))
        assert session.object_ids == ()
        for labels in ([0.6], [2], [1, 0], "x"):
            with pytest.raises(ValueError, match="label"):
                predictor.add_points(session, 0, 1, [5, 5], labels)
        with pytest.raises(ValueError, match="four numbers"):
            predictor.add_box(session, 0, 1, [1, 2, 3])
        with pytest.raises(ValueError, match=r"empty prompt|clicks must be"):
            predictor.add_points(session, 0, 1, [])
        for frame in (1.0, "1", None):
            with pytest.raises(ValueError, match="a frame is a whole number"):
                predictor.add_points(session, frame, 1, [5, 5])
        with pytest.raises(ValueError, match="corrections must be one of stick"):
            VideoOptions(corrections="typo")
        with pytest.raises(KeyError, match="no object 1; objects of this session: none yet"):
            session.remove_object(1)
        predictor.add_points(session, 0, 1, [1, 1])
        with pytest.raises(ValueError, match="frames must be 0 or more"):
            predictor.plan(session, frames=-1)
        with pytest.raises(ValueError, match="direction"):
            run(predictor.propagate(session, direction="sideways"))
        with pytest.raises(KeyError, match="object 2 has no mask on frame 0"):
            session.masks(0).mask(2)
        session.clear(0, 1)
        with pytest.raises(ValueError, match="object 1 has no prompt left"):
            run(predictor.propagate(session))

    def test_pictures_only_weights_are_refused(self, present: SAM2) -> None:
        present.memory_is_trained = False
        with pytest.raises(ValueError, match="only know pictures"):
            VideoPredictor(present)


class TestFrameMasks:
    def test_shapes(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = prompted(predictor, clip)
        run(predictor.propagate(session))
        masks = session.masks(4)
        assert masks.logits.shape == (2, 48, 64)
        assert masks.masks.dtype == bool
        assert [i for i, _ in masks] == ["first", "second"]
        found = masks.to_detections()
        assert set(found.tracker_id) <= {1, 2}
        assert session.masks(4).low_res.dtype == torch.float32
        with pytest.raises(IndexError):
            session.masks(99)

    def test_an_object_keeps_its_number(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        whole = np.ones((48, 64), bool)
        predictor.add_mask(session, 5, "late", whole)
        predictor.add_mask(session, 0, "early", whole)
        assert session.masks(0).to_detections().tracker_id.tolist() == [2]
        assert session.masks(5).to_detections().tracker_id.tolist() == [1]
        predictor.add_mask(session, 0, "late", ~whole)
        assert session.masks(0).to_detections().tracker_id.tolist() == [2], "an empty mask is nothing to detect"

    def test_supervisions_annotators_take_them_as_they_are(self, predictor: VideoPredictor, clip: np.ndarray) -> None:
        session = predictor.open(clip)
        predictor.add_mask(session, 0, "cup", np.indices((48, 64))[1] < 20)
        found = predictor.add_mask(session, 0, 5, np.ones((48, 64), bool)).to_detections()
        assert (found.class_id.tolist(), found.tracker_id.tolist()) == ([0, 1], [1, 2])
        assert found.data["class_name"].tolist() == ["cup", "5"]
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


class TestChoosingMemories:
    def test_steady_state(self) -> None:
        chosen = choose_memories(20, [0], range(1, 20), slots=7, pointer_frames=16, reverse=False)
        assert chosen.maps == ((0, 6), (14, 5), (15, 4), (16, 3), (17, 2), (18, 1), (19, 0))
        assert chosen.pointers == ((0, 20), *((20 - d, d) for d in range(1, 16)))

    def test_backwards(self) -> None:
        chosen = choose_memories(4, [8], {5, 6, 7, 3}, slots=3, pointer_frames=8, reverse=True)
        assert chosen.maps == ((8, 2), (6, 1), (5, 0))
        assert chosen.pointers == ((8, 4), (5, 1), (6, 2), (7, 3))

    def test_the_future_lends_its_map_only(self) -> None:
        chosen = choose_memories(2, [5], (), slots=7, pointer_frames=8, reverse=False)
        assert chosen.maps == ((5, 6),)
        assert chosen.pointers == ()
