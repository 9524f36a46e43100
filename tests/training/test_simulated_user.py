"""Plans of the simulated user: the published frequencies, and what our own plans avoid."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from sam2kit.training.simulated_user import Habits, SessionPlan, alike, draw_plans
from tests.golden_models import GOLDEN

WANTED = json.loads((GOLDEN / "training" / "prompt_statistics.json").read_text())
DRAWS = 20_000


@pytest.mark.parametrize("frames", [8, 1])
def test_the_published_frequencies(frames: int) -> None:
    rng = np.random.default_rng(42)
    first, joint = Counter(), Counter()
    habits, present = Habits(plans=1), np.ones((frames, 1), bool)
    for _ in range(DRAWS):
        plan = draw_plans(habits, present, rng)[0]
        first[{"click": "point"}.get(plan.prompts[0][1], plan.prompts[0][1])] += 1
        by = "mask" if plan.prompts[0][1] == "mask" else "click_or_box"
        joint[f"{by} init={len(plan.prompts)} corrected={len(plan.corrections)}"] += 1
    golden = WANTED[f"T={frames}"]
    for counted, wanted in ((first, golden["first_frame_prompt"]), (joint, golden["joint"])):
        assert counted.keys() <= wanted.keys() or not counted.keys() - wanted.keys()
        for name, share in wanted.items():
            # both are samples of 20,000: five standard deviations of their difference
            assert counted[name] / DRAWS == pytest.approx(share, abs=0.025), name


def test_a_batch_shares_a_plan_only_if_told_so() -> None:
    present = np.ones((8, 30), bool)
    assert len(alike(draw_plans(Habits(plans=1), present, np.random.default_rng(0)))) == 1
    groups = alike(draw_plans(Habits(plans=20), present, np.random.default_rng(0)))
    assert len(groups) > 5
    assert sorted(n for rows in groups.values() for n in rows) == list(range(30))


def test_nobody_boxes_what_is_not_there() -> None:
    present = np.zeros((4, 50), bool)
    present[0] = True
    for seed in range(20):
        for plan in draw_plans(Habits(mask=0, box=1), present, np.random.default_rng(seed)):
            assert plan.prompts[0] == (0, "box")
            assert all(kind == "click" for t, kind in plan.prompts if t)


def test_prompted_frames_come_first() -> None:
    assert SessionPlan(((0, "click"), (3, "box")), ((0, 7),)).order(5) == [0, 3, 1, 2, 4]


def test_masks_are_never_corrected() -> None:
    plans = draw_plans(Habits(mask=1), np.ones((8, 20), bool), np.random.default_rng(0))
    assert all(not plan.corrections and {k for _, k in plan.prompts} == {"mask"} for plan in plans)
