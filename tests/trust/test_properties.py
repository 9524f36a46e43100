"""Laws that hold for all inputs, and sessions in random order: `python -m pytest tests/trust -m properties`.

The session is compared with a model of it that a person would have in mind: which prompts there are, and on which
frames each object has an answer.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pycocotools import mask as coco

from sam2kit.media.mask_files import mask_to_polygon, mask_to_runs, polygon_to_mask, run_counts, runs_to_mask
from sam2kit.predict.frame_masks import CompactLogits
from sam2kit.predict.geometry import (
    clean_logits,
    mask_boxes,
    mask_to_logits,
    masks_to_image,
    points_to_square,
    suppress_overlapping,
)
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.video import VideoPredictor
from tests.toy_model import toy_model

pytestmark = [pytest.mark.properties, pytest.mark.usefixtures("one_thread")]
EXAMPLES = int(os.environ.get("SAM2KIT_EXAMPLES", "60"))  # of each law
settings.register_profile(
    "trust", max_examples=EXAMPLES, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
settings.load_profile("trust")

sides = st.integers(1, 40)
masks = st.tuples(sides, sides).flatmap(lambda size: arrays(bool, size))
floats = st.floats(-1e4, 1e4, width=32)


@pytest.mark.quick
@given(masks)
def test_run_lengths_keep_every_mask(mask: np.ndarray) -> None:
    runs = mask_to_runs(mask)
    plain = {**runs, "counts": run_counts(runs).tolist()}
    assert np.array_equal(runs_to_mask(runs), mask)
    assert np.array_equal(runs_to_mask(plain), mask)
    assert sum(plain["counts"]) == mask.size
    assert np.array_equal(coco.decode(runs), mask), "pycocotools reads the same"


@given(masks)
def test_polygons_cover_what_they_outline(mask: np.ndarray) -> None:
    line = mask_to_polygon(mask)
    filled = polygon_to_mask(line, mask.shape)
    assert len(line) or not mask.any()
    assert not (mask & ~filled).any() or len(line) > 2000, "nothing of the mask is lost"


@pytest.mark.quick
@given(masks)
def test_boxes_enclose_their_masks(mask: np.ndarray) -> None:
    x0, y0, x1, y1 = mask_boxes(torch.from_numpy(mask[None]))[0].tolist()
    rows, columns = np.nonzero(mask)
    if len(rows):
        assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max(), rows.max())
    else:
        assert (x0, y0, x1, y1) == (0, 0, 0, 0)


@pytest.mark.quick
@given(st.integers(1, 5000), st.integers(1, 5000), st.floats(0, 1), st.floats(0, 1), st.sampled_from([64, 512, 1024]))
def test_points_come_back_from_the_square(height: int, width: int, u: float, v: float, side: int) -> None:
    point = torch.tensor([u * width, v * height])
    there = points_to_square(point, (height, width), side)
    back = points_to_square(there, (side, side), 1) * torch.tensor([width, height])
    assert there.min() >= 0 and there.max() <= side * (1 + 1e-6)
    assert torch.allclose(back, point, atol=1e-3 * max(height, width))


@given(arrays(np.float32, (8, 8), elements=floats), sides, sides)
def test_masks_at_any_size_stay_within_their_logits(low: np.ndarray, height: int, width: int) -> None:
    shown = masks_to_image(torch.from_numpy(low)[None, None], (height, width))
    assert shown.shape == (1, 1, height, width)
    assert low.min() - 1e-2 <= shown.min() <= shown.max() <= low.max() + 1e-2


@pytest.mark.quick
@given(arrays(np.float32, (12, 12), elements=floats), st.integers(0, 30), st.integers(0, 30))
def test_cleaning_changes_small_areas_only(logits: np.ndarray, hole: int, speck: int) -> None:
    before = torch.from_numpy(logits)
    after = clean_logits(before, max_hole_area=hole, max_speck_area=speck)
    changed = (before > 0) != (after > 0)
    assert torch.equal(before[~changed] > 0, after[~changed] > 0)
    if not hole and not speck:
        assert after is before
    if not speck:
        assert not ((before > 0) & (after <= 0)).any(), "filling takes nothing away"
    if not hole:
        assert not ((before <= 0) & (after > 0)).any(), "removing adds nothing"


@given(arrays(np.float32, (16, 16), elements=floats))
def test_packed_logits_keep_every_mask(logits: np.ndarray) -> None:
    packed = CompactLogits.of(torch.from_numpy(logits))
    packed.check((16, 16))
    back = packed.tensor().numpy()
    clear = np.abs(logits) > 1 / 16
    assert np.array_equal(back[clear] > 0, logits[clear] > 0)
    assert np.abs(back - logits.clip(-8, 7.9375)).max() <= 1 / 32 + 1e-6
    assert CompactLogits.of(packed.tensor()) == packed, "packing again changes nothing"


@given(masks, st.sampled_from([16, 64]))
def test_a_mask_becomes_logits_between_its_bounds(mask: np.ndarray, side: int) -> None:
    logits = mask_to_logits(mask, side)
    assert logits.shape == (1, side, side)
    assert logits.min() >= -10.001 and logits.max() <= 10.001
    if mask.all() or not mask.any():
        assert (logits > 0).all() == mask.all()


boxes = st.lists(st.tuples(*[st.integers(0, 50)] * 4).map(lambda b: (*sorted(b[::2]), *sorted(b[1::2]))), max_size=20)


@given(boxes, st.floats(0, 1))
def test_boxes_that_stay_do_not_overlap(listed: list, limit: float) -> None:
    given_boxes = torch.tensor([(x0, y0, x1, y1) for x0, x1, y0, y1 in listed], dtype=torch.float32).reshape(-1, 4)
    scores = torch.linspace(1, 0, len(listed)) if listed else torch.zeros(0)
    kept = suppress_overlapping(given_boxes, scores, limit)
    assert sorted(kept.tolist()) == kept.tolist(), "the best comes first"
    for first, second in combinations(given_boxes[kept], 2):
        shared = torch.minimum(first[2:], second[2:]) - torch.maximum(first[:2], second[:2])
        overlap, (one, other) = shared.clamp(min=0).prod(), ((b[2:] - b[:2]).prod() for b in (first, second))
        assert overlap <= limit * (one + other - overlap) + 1e-3


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(plain, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


@given(anything, anything, anything, anything)
def test_prompts_are_taken_or_refused(points: object, labels: object, box: object, logits: object) -> None:
    try:
        prompt = Prompt(points, labels, box, logits)
    except ValueError:
        return
    for tensor in (prompt.points_xy, prompt.box_xyxy, prompt.mask_logits):
        assert tensor is None or (len(tensor) == len(prompt) and bool(tensor.isfinite().all()))
    assert (prompt.labels is None) == (prompt.points_xy is None)


FRAMES, SIZE_HW = 5, (40, 60)
OBJECTS = ("cup", 2, "名前")
objects, frames = st.sampled_from(OBJECTS), st.integers(0, FRAMES - 1)


@cache
def predictor() -> VideoPredictor:
    return VideoPredictor(toy_model())


class Session(RuleBasedStateMachine):
    """Whatever a person does, in whatever order."""

    @initialize()
    def open(self) -> None:
        self.session = predictor().open(np.random.default_rng(0).integers(0, 255, (FRAMES, *SIZE_HW, 3), np.uint8))
        self.clicks: dict[tuple, int] = {}  # (object, frame) -> clicks; -1 for a mask
        self.order: list = []  # objects, as they came
        self.tracked: set[tuple] = set()  # (object, frame)

    @rule(object_id=objects, frame=frames, xy=st.tuples(st.integers(0, 60), st.integers(0, 40)), fresh=st.booleans())
    def click(self, object_id: object, frame: int, xy: tuple[int, int], fresh: bool) -> None:
        predictor().add_points(self.session, frame, object_id, [xy], [xy[0] % 2], replace=fresh)
        before = 0 if fresh else max(self.clicks.get((object_id, frame), 0), 0)
        self._is_prompted(object_id, frame, before + 1)

    @rule(object_id=objects, frame=frames)
    def give_a_mask(self, object_id: object, frame: int) -> None:
        predictor().add_mask(self.session, frame, object_id, np.eye(*SIZE_HW, dtype=bool))
        self._is_prompted(object_id, frame, -1)

    @rule(object_id=objects, frame=st.sampled_from([-1, FRAMES]))
    def ask_for_a_frame_that_is_not_there(self, object_id: object, frame: int) -> None:
        with pytest.raises(IndexError):
            predictor().add_points(self.session, frame, object_id, [[1, 1]])

    @rule(object_id=objects, frame=frames)
    def click_outside(self, object_id: object, frame: int) -> None:
        if self.clicks.get((object_id, frame)) == -1:
            return  # a click after a mask takes its place, and is checked with the others
        with pytest.raises(ValueError, match="outside"):
            predictor().add_points(self.session, frame, object_id, [[999, 1]])

    def _is_prompted(self, object_id: object, frame: int, clicks: int) -> None:
        self.clicks[object_id, frame] = clicks
        if object_id not in self.order:
            self.order.append(object_id)

    @precondition(lambda self: self.clicks)
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        object_id, frame = data.draw(st.sampled_from(sorted(self.clicks, key=str)))
        self.session.clear(frame, object_id)
        del self.clicks[object_id, frame]

    @rule(object_id=objects)
    def remove(self, object_id: object) -> None:
        if object_id not in self.order:
            with pytest.raises(KeyError):
                self.session.remove_object(object_id)
            return
        self.session.remove_object(object_id)
        self.order.remove(object_id)
        self.clicks = {key: n for key, n in self.clicks.items() if key[0] != object_id}
        self.tracked = {key for key in self.tracked if key[0] != object_id}

    @rule(
        direction=st.sampled_from(["forward", "backward", "both"]), most=st.integers(0, FRAMES), stop=st.integers(1, 9)
    )
    def track(self, direction: str, most: int, stop: int) -> None:
        if not self.clicks:  # objects without a prompt stay out
            with pytest.raises(ValueError, match="nothing to track"):
                predictor().plan(self.session, direction=direction, frames=most)
            return
        for done, shown in enumerate(predictor().propagate(self.session, direction=direction, frames=most), start=1):
            self._note(shown)
            if done == stop:
                break

    @rule()
    def go_on(self) -> None:
        for shown in predictor().resume(self.session):
            self._note(shown)
        assert not self.session.plan

    @rule()
    def save_and_open_again(self) -> None:
        if any(not isinstance(i, (str, int)) for i in self.order):
            return
        with tempfile.TemporaryDirectory() as folder:
            path = predictor().save(self.session, Path(folder) / "a.sam2kit")
            again = predictor().load(path, self.session.clip)
        for frame in range(FRAMES):
            before, after = self.session.masks(frame), again.masks(frame)
            assert before.object_ids == after.object_ids
            assert np.array_equal(before.masks, after.masks)
        assert list(again.plan) == list(self.session.plan)
        self.session = again

    def _note(self, shown: object) -> None:
        self.tracked |= {(i, shown.frame_index) for i in shown.object_ids} - self.clicks.keys()

    @invariant()
    def the_session_is_as_a_person_thinks(self) -> None:
        if not hasattr(self, "session"):
            return
        assert list(self.session.object_ids) == self.order
        said = {(i, f): t.prompts[f] for i, t in self.session.objects.items() for f in t.prompts}
        assert said.keys() == self.clicks.keys()
        for key, prompt in said.items():
            assert (-1 if prompt.mask is not None else len(prompt.points_xy)) == self.clicks[key]
        for frame in range(FRAMES):
            shown = self.session.masks(frame)
            wanted = {i for i in self.order if (i, frame) in self.clicks or (i, frame) in self.tracked}
            assert {i for i in self.order if (i, frame) in self.clicks} <= set(shown.object_ids)
            assert set(shown.object_ids) <= wanted
            assert shown.masks.shape == (len(shown), *SIZE_HW)
        for step in self.session.plan:
            assert all(any(key[0] == i for key in self.clicks) for i in step.object_ids)


TestSession = Session.TestCase
TestSession.settings = settings(
    max_examples=max(EXAMPLES // 2, 5), stateful_step_count=16, deadline=None, derandomize=True
)
