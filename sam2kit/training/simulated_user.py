"""What a simulated user does with an object: how it is prompted, on which frames, and where corrections fall.

The plan is pure data, drawn before the network runs; session.py carries it out. The published code draws one plan for a
whole batch; here the objects of a lesson get different ones, though not so many that each goes through the network
alone.

Source: SAM 2, arXiv:2408.00714, appendix "Training" (interactive simulation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

KINDS = ("mask", "click", "box", "hint")  # a hint is a spoiled mask that the decoder may improve


@dataclass(frozen=True)
class SessionPlan:
    """What happens to one object, or to several that are treated alike."""

    prompts: tuple[tuple[int, str], ...]  # (frame, kind), in the order in which they are given
    corrections: tuple[tuple[int, int], ...] = ()  # (frame, corrective clicks)

    def order(self, frames: int) -> list[int]:
        """Prompted frames first, as a user gives them; then the others as time goes."""
        prompted = [frame for frame, _ in self.prompts]
        return prompted + [t for t in range(frames) if t not in prompted]


@dataclass(frozen=True)
class Habits:
    """How plans are drawn. The defaults are the published ones, except that not all objects get the same.

    On a picture (a clip of one frame) a mask would leave nothing to learn, so clicks and boxes share its part.
    """

    mask: float = 0.5  # chance that the true mask is the prompt; it is taken as it is and never corrected
    box: float = 0.5  # chance of a box instead of a click, on each prompted frame
    prompted_frames: int = 2  # at most; the first frame always
    corrected_frames: int = 2  # at most; prompted frames always
    corrections: int = 7  # corrective clicks on a corrected frame
    plans: int = 2  # in one lesson; each object gets one of them


def draw_plans(habits: Habits, present: np.ndarray, rng: Generator) -> list[SessionPlan]:
    """One plan for each object.

    Args:
        present: bool [T, N], on which frames each object is in the picture.
    """
    frames, objects = present.shape
    drawn = [_draw_plan(habits, frames, rng) for _ in range(habits.plans)]
    if len(drawn) == 1:
        return drawn * objects
    chosen = rng.integers(len(drawn), size=(objects,))
    return [_without_impossible_boxes(drawn[which], present[:, n]) for n, which in enumerate(chosen)]


def _draw_plan(habits: Habits, frames: int, rng: Generator) -> SessionPlan:
    by_mask = frames > 1 and rng.random() < habits.mask
    count = min(int(rng.integers(1, habits.prompted_frames + 1)), frames)
    prompted = [0, *(rng.permutation(frames - 1)[: count - 1] + 1).tolist()]
    if by_mask:
        return SessionPlan(tuple((t, "mask") for t in prompted))
    most = min(max(habits.corrected_frames, count), frames)
    others = [t for t in range(1, frames) if t not in prompted]
    extra = rng.permutation(others)[: int(rng.integers(count, most + 1)) - count].tolist()
    kinds = tuple((t, "box" if rng.random() < habits.box else "click") for t in prompted)
    return SessionPlan(kinds, tuple((int(t), habits.corrections) for t in sorted(prompted + extra)))


def _without_impossible_boxes(plan: SessionPlan, present: np.ndarray) -> SessionPlan:
    """Nobody draws a box around what is not there; a click then falls on the background and says no."""
    prompts = tuple((t, "click" if kind == "box" and not present[t] else kind) for t, kind in plan.prompts)
    return SessionPlan(prompts, plan.corrections)


def alike(plans: Sequence[SessionPlan]) -> dict[SessionPlan, list[int]]:
    """Objects by plan: those that are treated alike go through the network together."""
    groups: dict[SessionPlan, list[int]] = {}
    for number, plan in enumerate(plans):
        groups.setdefault(plan, []).append(number)
    return groups
