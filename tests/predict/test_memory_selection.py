"""Recalling reliable frames and anchors: the choice on invented numbers, and what becomes of it while tracking."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam2kit.model.memory_bank import SelectedMemories, choose_memories
from sam2kit.model.sam2 import SAM2, FrameAnswer
from sam2kit.predict import memory_selection
from sam2kit.predict.memory_selection import TrackedNumbers, becomes_anchor, rival_share
from sam2kit.predict.objects import Step
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor

# an occlusion: prompt 0, object scores and predicted IoUs of the frames after it
SCORES = {**dict.fromkeys(range(1, 6), 6.0), 6: 1.5, **dict.fromkeys(range(7, 15), -3.0), 15: 2.0, 16: 2.0}
IOUS = {1: 0.9, 2: 0.9, 3: 0.88, 4: 0.85, 5: 0.8, 6: 0.45, 7: 0.2, **dict.fromkeys(range(8, 15), 0.1), 15: 0.7, 16: 0.9}


def reliable_in_occlusion(frame: int) -> bool:
    return SCORES[frame] > 0 and IOUS[frame] > 0.3


def pairs(text: str) -> tuple[tuple[int, int], ...]:
    """ "0,6 1,5" as ((0, 6), (1, 5))."""
    return tuple((int(a), int(b)) for a, b in (pair.split(",") for pair in text.split()))


def mirrored(chosen: SelectedMemories) -> SelectedMemories:
    return SelectedMemories(*(tuple((60 - f, n) for f, n in some) for some in (chosen.maps, chosen.pointers)))


def choose(now: int, prompted: Any, tracked: Any, *, reverse: bool = False, slots: int = 7, **how: Any) -> Any:
    """What is chosen; and the same with time and frames turned around."""
    same = {"slots": slots, "pointer_frames": 16}
    chosen = choose_memories(now, prompted, tracked, reverse=reverse, **same, **how)
    turned: dict[str, Any] = {"anchors": [60 - f for f in how.get("anchors", ())]}
    if (reliable := how.get("reliable")) is not None:
        turned["reliable"] = lambda frame: reliable(60 - frame)
    there = [60 - f for f in prompted], [60 - f for f in tracked]
    assert choose_memories(60 - now, *there, reverse=not reverse, **same, **turned) == mirrored(chosen)
    return chosen


@pytest.mark.parametrize(
    ("now", "latest", "reliable", "pointers"),
    [
        (6, "0,6 1,4 2,3 3,2 4,1 5,0", None, "0,6 5,1 4,2 3,3 2,4 1,5"),
        (
            8, "0,6 2,5 3,4 4,3 5,2 6,1 7,0", None, "0,8 7,1 6,2 5,3 4,4 3,5 2,6 1,7",
        ),
        (
            12, "0,6 6,5 7,4 8,3 9,2 10,1 11,0", "0,6 2,5 3,4 4,3 5,2 6,1 11,0",
            "0,12 11,1 6,2 5,3 4,4 3,5 2,6 1,7",
        ),
        (
            15, "0,6 9,5 10,4 11,3 12,2 13,1 14,0", "0,6 2,5 3,4 4,3 5,2 6,1 14,0",
            "0,15 14,1 6,2 5,3 4,4 3,5 2,6 1,7",
        ),
        (
            17, "0,6 11,5 12,4 13,3 14,2 15,1 16,0", "0,6 3,5 4,4 5,3 6,2 15,1 16,0",
            "0,17 16,1 15,2 6,3 5,4 4,5 3,6 2,7 1,8",
        ),
    ],
)  # fmt: skip
def test_an_occlusion(now: int, latest: str, reliable: str | None, pointers: str) -> None:
    assert choose(now, [0], range(1, now)).maps == pairs(latest)
    chosen = choose(now, [0], range(1, now), reliable=reliable_in_occlusion)
    assert (chosen.maps, chosen.pointers) == (pairs(reliable or latest), pairs(pointers))


@pytest.mark.parametrize(
    ("now", "reliable", "pointers"),
    [
        (11, "5,5 6,4 7,3 8,2 9,1", "9,2 8,3 7,4 6,5 5,6 4,7 3,8 2,9 1,10"),
        (14, "6,5 7,4 8,3 9,2 13,0", "13,1 9,3 8,4 7,5 6,6 5,7 4,8 3,9 2,10 1,11"),
        (20, "6,5 7,4 8,3 9,2 19,0", "19,1 9,3 8,4 7,5 6,6 5,7"),
        (30, "29,0", "29,1"),
        (42, "41,0", "41,1"),
    ],
)
def test_a_correction_ends_what_was_believed_before(now: int, reliable: str, pointers: str) -> None:
    tracked = [f for f in range(1, now) if f != 10]
    chosen = choose(now, [0, 10], tracked, reliable=lambda frame: frame < 11 or frame == 41)
    assert chosen.maps == ((0, 6), (10, 6), *pairs(reliable))
    assert chosen.pointers == ((0, now), (10, now - 10), *pairs(pointers))


@pytest.mark.parametrize(
    ("now", "maps", "pointers"),
    [
        (19, "20,3 23,2 21,1", "21,2 23,3 24,4 25,5 26,6 27,7 28,8 29,9 30,10"),
        (16, "20,3 19,2 18,1 17,0", "17,1 18,2 19,3 21,5 23,6 24,7 25,8 26,9 27,10 28,11 29,12 30,13"),
        (14, "20,3 19,2 18,1 15,0", "15,1 18,2 19,3 21,5 23,6 24,7 25,8 26,9 27,10 28,11 29,12"),
        (13, "20,3 19,2 18,1 14,0", "14,1 18,2 19,3 21,5 23,6 24,7 25,8 26,9 27,10 28,11"),
    ],
)
def test_backwards_after_forwards(now: int, maps: str, pointers: str) -> None:
    tracked = [f for f in range(now + 1, 31) if f != 20]
    chosen = choose(now, [20], tracked, reverse=True, slots=4, reliable=lambda frame: frame not in (22, 17, 16, 15))
    assert chosen.maps == pairs(maps)
    assert chosen.pointers == ((20, 20 - now), *pairs(pointers))


@pytest.mark.parametrize(
    ("now", "seven", "four"),
    [
        (13, "0,6 6,6 8,4 9,3 10,2 11,1 12,0", "0,3 6,3 11,1 12,0"),
        (14, "0,6 6,6 12,6 9,3 10,2 11,1 13,0", "0,3 12,3 11,1 13,0"),
        (20, "0,6 6,6 12,6 18,6 16,2 17,1 19,0", "0,3 18,3 17,1 19,0"),
        (26, "0,6 12,6 18,6 24,6 22,2 23,1 25,0", "0,3 24,3 23,1 25,0"),
    ],
)
def test_anchors_stay(now: int, seven: str, four: str) -> None:
    for slots, maps in ((7, seven), (4, four)):
        how: dict[str, Any] = {"slots": slots, "reliable": lambda frame: True}
        chosen = choose(now, [0], range(1, now), anchors=[f for f in (6, 12, 18, 24) if f < now], **how)
        assert chosen.maps == pairs(maps)
        assert chosen.pointers == choose(now, [0], range(1, now), **how).pointers
    corrected = choose(now, [0, now - 1], range(1, now - 1), reliable=lambda frame: True, anchors=[2])
    assert (2, 6) not in corrected.maps, "none from before a correction"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_where_all_are_reliable_it_is_the_published_choice(data: st.DataObject) -> None:
    now, slots = data.draw(st.integers(0, 40)), data.draw(st.sampled_from([4, 7]))
    prompted = data.draw(st.sets(st.integers(0, 40), min_size=1))
    if not any(f < now for f in prompted):
        prompted.add(0)
    tracked = [f for f in range(now) if f not in prompted]
    same = choose(now, sorted(prompted), tracked, slots=slots)
    assert choose(now, sorted(prompted), tracked, slots=slots, reliable=lambda frame: True) == same


# anchors


def test_which_frames_become_anchors() -> None:
    """Time, area, predicted IoU, rival share and whether it is one."""
    table: list[tuple[int, int, float, float, bool]] = [
        (1, 1000, 0.95, 0.4, False),  # the first tracked frame
        (2, 1010, 0.92, 0.4, True),
        (3, 990, 0.90, 0.9, False),  # no rival, and just after one
        (4, 1300, 0.90, 0.4, False),  # grew
        (5, 1000, 0.78, 0.4, False),
        (6, 1005, 0.90, 0.65, False),  # four frames after one
        (7, 0, 0.10, 1, False),
        (8, 995, 0.85, 0.5, True),
        *((t, area, 0.9, 0.5, False) for t, area in ((9, 1000), (10, 1010), (11, 1000))),
        (12, 1000, 0.81, 0.5, False),
        (13, 1000, 0.90, 0.71, False),
        (14, 1000, 0.90, 0.70, True),
        (15, 1000, 0.95, 0.5, False),
    ]
    known: list[TrackedNumbers] = []
    for t, area, iou, share, wanted in table:
        mask, others = mask_with_rival(share)
        found = becomes_anchor(t, area, iou, known, mask, others)
        assert found == wanted, f"frame {t}"
        known.insert(0, TrackedNumbers(t, area, found))


def mask_with_rival(share: float) -> tuple[np.ndarray, np.ndarray]:
    """A mask of 100 columns, and a candidate that makes its box so much wider."""
    mask, other = np.zeros((2, 40, 400), bool)
    mask[:, :100] = True
    other[:, : round(100 / share)] = True
    return mask, np.stack([mask, other])


def test_shares_of_rivals() -> None:
    mask = np.zeros((160, 160), bool)
    mask[40:80, 40:80] = True
    beside, rim, inside, specks = (mask.copy() for _ in range(4))
    beside[40:80, 100:140] = True
    rim[38:82, 38:82] = True
    inside[50:60, 50:60] = False
    specks[0, 0], specks[40:80, 100:140] = True, True
    assert rival_share(mask, np.stack([mask, beside])) == pytest.approx(0.4)
    assert rival_share(mask, rim[None]) == pytest.approx(1600 / 1936)
    assert rival_share(mask, inside[None]) == 1
    assert rival_share(mask, specks[None]) == pytest.approx(0.4), "the largest part counts"
    assert rival_share(mask, np.stack([rim, beside, inside])) == pytest.approx(0.4)


# tracking


class Scheduled:
    """A predictor whose tracked frames have invented object scores and predicted IoUs; it notes what is recalled."""

    def __init__(self, model: SAM2, how: str, monkeypatch: pytest.MonkeyPatch, schedule: Callable[[int], Any]) -> None:
        self.predictor = VideoPredictor(model, VideoOptions(memory_selection=how))  # type: ignore[arg-type]
        self.recalled: dict[int, list[SelectedMemories]] = {}
        self.encoded = 0
        tracker, real_answer, real_encode = self.predictor.tracker, model.answer, model.encode_image
        real_pass, frame = tracker._pass, [0]

        def work(session: Session, step: Step, group: Any) -> Any:
            frame[0] = step.frame
            self.recalled.setdefault(step.frame, []).extend(selected for _, selected in group)
            return real_pass(session, step, group)

        def answer(*arguments: Any, **options: Any) -> FrameAnswer:
            found = real_answer(*arguments, **options)
            if len(arguments) > 2:  # prompted
                return found
            score, iou = (torch.full_like(found.object_score, value) for value in schedule(frame[0]))
            return dataclasses.replace(found, object_score=score, predicted_iou=iou)

        def encode(pixels: torch.Tensor) -> Any:
            self.encoded += len(pixels)
            return real_encode(pixels)

        monkeypatch.setattr(memory_selection, "_RIVAL_SHARE", 1.0)  # made-up weights know no look-alikes
        monkeypatch.setattr(memory_selection, "_ANCHOR_AREA", (0, 99))
        monkeypatch.setattr(tracker, "_pass", work)
        monkeypatch.setattr(model, "answer", answer)
        monkeypatch.setattr(model, "encode_image", encode)


def hidden(frame: int) -> tuple[float, float]:
    """Object score and predicted IoU: not there in frames 8 to 15."""
    return (-3.0, 0.1) if 8 <= frame < 16 else (6.0, 0.9)


@pytest.mark.parametrize("how", ["reliable", "anchored"])
class TestTracking:
    def test_absent_frames_are_passed_over_and_each_frame_is_encoded_once(
        self, present: SAM2, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        watched = Scheduled(present, how, monkeypatch, hidden)
        predictor = watched.predictor
        session = predictor.open(clip)
        predictor.add_points(session, 0, "a", [12, 20])
        list(predictor.propagate(session))
        recalled = {f for f, _ in watched.recalled[15][0].maps}
        assert recalled.isdisjoint(range(8, 14)) and {0, 14, 7} <= recalled
        assert watched.encoded == len(clip)

    def test_stopped_and_saved_in_an_absence_is_uninterrupted(
        self, present: SAM2, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
    ) -> None:
        watched = Scheduled(present, how, monkeypatch, hidden)
        predictor = watched.predictor
        whole, stopped = predictor.open(clip), predictor.open(clip)
        for session in (whole, stopped):
            predictor.add_points(session, 0, "a", [12, 20])
        list(predictor.propagate(whole))
        wanted = {frame: some[0] for frame, some in watched.recalled.items()}
        watched.recalled.clear()
        for found in predictor.propagate(stopped):
            if found.frame_index == 12:
                break
        again = predictor.load(predictor.save(stopped, tmp_path / "work.sam2kit"), clip)
        assert again.options.memory_selection == how
        list(predictor.resume(again))
        assert {frame: some[0] for frame, some in watched.recalled.items()} == wanted
        assert any(result.anchor for result in whole.objects["a"].tracked.values()) == (how == "anchored")
        for frame, result in whole.objects["a"].tracked.items():
            other = again.objects["a"].tracked[frame]
            assert (other.area, other.anchor) == (result.area, result.anchor)
            torch.testing.assert_close(other.low_res(), result.low_res())

    def test_objects_with_histories_of_their_own_get_what_each_gets_alone(
        self, present: SAM2, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        predictor = VideoPredictor(present, VideoOptions(memory_selection=how))  # type: ignore[arg-type]
        prompts = {"a": [12, 20], "b": [50, 34], "c": [30, 30]}
        # "b" is unreliable on frames on which the others are not
        monkeypatch.setattr(
            "sam2kit.predict.frame_masks.FrameResult.is_reliable",
            lambda self, least: self.prompted or float(self.pointer[0]) > 0,
        )

        def tracked(*names: str) -> Session:
            session = predictor.open(clip)
            for name in names:
                predictor.add_points(session, 0, name, prompts[name])
            list(predictor.propagate(session))
            return session

        together = tracked(*prompts)
        histories = set()
        for name in prompts:
            alone = tracked(name)
            histories.add(tuple(float(r.pointer[0]) > 0 for r in alone.objects[name].tracked.values()))
            for frame in range(len(clip)):
                here, there = together.objects[name].result(frame), alone.objects[name].result(frame)
                assert here is not None and there is not None
                torch.testing.assert_close(here.low_res(), there.low_res(), atol=1 / 16 + 1e-6, rtol=0)
        assert len(histories) > 1, "else nothing was shown"

    def test_a_stream_keeps_little_and_is_from_file(
        self, present: SAM2, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        watched = Scheduled(present, how, monkeypatch, lambda f: (-3.0, 0.1) if 40 <= f < 110 else (6.0, 0.9))
        predictor = watched.predictor
        frames = [clip[f % len(clip)] for f in range(120)]
        session, stream = predictor.open(np.stack(frames)), predictor.stream()
        predictor.add_points(session, 0, "a", [12, 20])
        wanted = list(predictor.propagate(session))
        of_file, watched.recalled = watched.recalled, {}
        for frame, pixels in enumerate(frames):
            found = stream.push(pixels)
            if frame == 0:
                found = stream.add_points("a", [12, 20])
            torch.testing.assert_close(found.low_res, wanted[frame].low_res, atol=1 / 16 + 1e-6, rtol=0)
            assert len(stream.session.objects["a"].tracked) <= 16 + 15 + 10 + 3
        assert watched.recalled == of_file
        maps = of_file[100][0].maps
        assert {f for f, _ in maps} >= {0, 39, 99}, "from before the absence"
        assert [f for f, slot in maps if slot == 6] == ([0] if how == "reliable" else [0, 26, 32, 38])


def test_what_is_no_choice_is_told_and_older_options_load() -> None:
    with pytest.raises(ValueError, match=r"one of latest, reliable, anchored, got 'best'"):
        VideoOptions(memory_selection="best")  # type: ignore[arg-type]
    assert VideoOptions().memory_selection == VideoOptions.official().memory_selection == "latest"
