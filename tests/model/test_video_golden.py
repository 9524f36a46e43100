"""Tracking against golden vectors of the official code: answers, pointers, scores and memories of every step.

The sessions run with the official options; each scenario is the list of calls that made its vectors.
"""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2kit.model.sam2 import SAM2
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.prompts import FramePrompt
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor
from tests.golden import inputs
from tests.golden_models import GOLDEN, compare, golden_model

SIZE_HW = (270, 480)
BOX = [300, 67, 396, 175]
# one-ulp flips of stored memories feed back, over eight frames, and so does one pixel of a prompted mask that comes to
# lie on the other side of zero (its logit was 1e-5); a wrong rule costs 0.5 and more
BFLOAT16 = {"low": 0.1, "ptr": 1e-2, "score": 1e-2, "mem": 6.3e-2}
FLOAT32 = dict.fromkeys(BFLOAT16, 1e-4)
ABSENT = -1024.0


class Scenario:
    """A session that plays the official calls and compares what each leaves behind."""

    def __init__(
        self,
        model: SAM2,
        file: str,
        name: str,
        frames: int,
        features: OrderedDict,
        *,
        begun: Session | None = None,
        **options: object,
    ) -> None:
        self.golden = np.load(GOLDEN / f"{file}.npz")
        self.file, self.name, self.compared = file, name, 0
        self.limits = FLOAT32 if options.get("memory_dtype") == torch.float32 else BFLOAT16
        published = VideoOptions.official(**{"max_hole_area": 0.0, "forget": False, **options})
        self.predictor = VideoPredictor(model, published)
        self.session: Session = self.predictor.open(inputs.clip(frames))
        self.session.features = features  # shared by the scenarios of one model: the same frames
        if begun is not None:
            self.session.objects = {
                i: replace(t.without_memories(), memories=dict(t.memories)) for i, t in begun.objects.items()
            }

    def ask(self, step: str, frame: int, obj: int, *prompt: object, keep: bool = False, **parts: object) -> None:
        """Give a `FramePrompt`, in place of earlier ones or beside them."""
        self.predictor.add_prompt(self.session, frame, obj, FramePrompt(*prompt, **parts), replace=not keep)
        self.check(step, frame)

    def propagate(self, step: str, start: int, direction: str = "forward", frames: int | None = None) -> None:
        for masks in self.predictor.propagate(self.session, start, direction, frames):
            self.check(step, masks.frame_index)

    def check(self, step: str, frame: int) -> None:
        """Compare every object on a frame with what the official predictor held after this step."""
        prefix = f"{self.name}/{step}/f{frame}"
        shown = self.session.masks(frame)
        for row, obj in enumerate(shown.object_ids):
            keys = {k for k in self.golden if k.startswith(f"{prefix}/o{obj}/")}
            if not keys:
                continue
            self._check_object(f"{prefix}/o{obj}", obj, frame)
            logits = shown.logits[row].double()
            stats = [logits.mean(), logits.std(), logits.min(), logits.max(), logits.abs().sum()]
            if f"{prefix}/o{obj}/video_stats" in keys:
                wanted = self.golden[f"{prefix}/o{obj}/video_stats"]
                compare(f"{self.file} video mean, min, max", np.array(stats)[[0, 2, 3]], wanted[[0, 2, 3]], 0.05)
            if f"{prefix}/o{obj}/video/bits" in keys:
                bits = np.unpackbits(self.golden[f"{prefix}/o{obj}/video/bits"])[: SIZE_HW[0] * SIZE_HW[1]]
                differing = np.mean(bits.reshape(SIZE_HW).astype(bool) != shown.masks[row])
                compare(f"{self.file} mask pixels", np.array(differing), np.array(0.0), 5e-4)

    def _check_object(self, prefix: str, obj: int, frame: int) -> None:
        track = self.session.objects[obj]
        result = track.result(frame)
        assert result is not None
        low = result.low_res(self.session.options)[0]
        stride = len(low) // 64
        self._compare(prefix, "low", low[1::stride, 1::stride])
        self._compare(prefix, "ptr", result.pointer)
        self._compare(prefix, "score", np.array(result.object_score))
        if f"{prefix}/is_cond" in self.golden:
            assert bool(self.golden[f"{prefix}/is_cond"]) == (frame in track.prompted), prefix
        if f"{prefix}/mem" in self.golden and frame in track.memories:
            self._compare(prefix, "mem", self.memory_sample(track.memories[frame].float()))

    def memory_sample(self, memory: torch.Tensor) -> torch.Tensor:
        """Some numbers of a memory, as the vectors hold them."""
        return memory[::8, 3::16, 5::16]

    def _compare(self, prefix: str, what: str, got: torch.Tensor | np.ndarray) -> None:
        wanted = self.golden[f"{prefix}/{what}"]
        got = np.asarray(got).reshape(wanted.shape)
        self.compared += 1
        compare(f"{self.file} {what}", got, wanted, self.limits[what])


def first_steps(scenario: Scenario) -> None:
    scenario.ask("add1", 0, 1, [[120, 108]], [1])
    scenario.ask("add2", 0, 2, box_xyxy=BOX)
    scenario.propagate("forward", 0)


def later_steps(scenario: Scenario) -> None:
    correction(scenario)
    scenario.ask("add3_on4", 4, 3, [[211, 211], [240, 60]], [1, 0])
    scenario.propagate("reverse_from4", 4, "backward")
    scenario.propagate("forward_from4", 4, frames=2)


def mask(scenario: Scenario) -> None:
    scenario.ask("add1", 2, 1, mask=inputs.disc_mask(*SIZE_HW, 2))
    scenario.ask("add2", 2, 2, [[211, 211]], [1])
    scenario.ask("add2b", 2, 2, [[300, 150]], [0], keep=True)
    scenario.ask("add3_empty", 2, 3, mask=np.zeros(SIZE_HW, bool))
    scenario.propagate("forward", 2, frames=3)
    scenario.propagate("reverse", 2, "backward")
    scenario.ask("remask4", 4, 1, mask=inputs.square_mask(*SIZE_HW))


def clicks(scenario: Scenario) -> None:
    scenario.ask("c1", 1, 7, [[120, 108]], [1])
    scenario.ask("c2_accumulate", 1, 7, [[30, 30]], [0], keep=True)
    scenario.ask("c3_replace", 1, 7, [[140, 120], [60, 200]], [1, 0])
    scenario.ask("c4_box_click", 1, 7, [[140, 120]], [1], [70, 60, 170, 160])
    scenario.ask("c5_unit_coords", 1, 7, [[0.25 * 480, 0.4 * 270]], [1])
    scenario.session.clear(1, 7)
    assert len(scenario.session.masks(1)) == 0
    scenario.ask("c7_after_clear", 1, 7, [[120, 108]], [1])


def multicond(scenario: Scenario) -> None:
    scenario.ask("a0", 0, 1, [[120, 108]], [1])
    scenario.ask("a6", 6, 1, [[200, 150]], [1])
    scenario.propagate("forward", 0)


def long(scenario: Scenario) -> None:
    scenario.predictor.add_box(scenario.session, 0, 1, BOX)
    for masks in scenario.predictor.propagate(scenario.session, 0, "forward"):
        frame = masks.frame_index
        wanted = scenario.golden[f"long/f{frame}/score"]
        compare("long score", masks.object_scores.reshape(wanted.shape), wanted, BFLOAT16["score"])
        if f"long/f{frame}/o1/low" in scenario.golden:
            scenario._check_object(f"long/f{frame}/o1", 1, frame)


def correction(scenario: Scenario) -> None:
    scenario.ask("correct5", 5, 1, [[200, 140]], [0])
    scenario.propagate("forward_after_correct", 5)


def absent(scenario: Scenario) -> None:
    scenario.predictor.add_mask(scenario.session, 0, 1, inputs.disc_mask(*SIZE_HW, 0))
    scenario.predictor.add_box(scenario.session, 0, 2, BOX)
    scenario.propagate("forward", 0, frames=3)


def set_score_bias(model: SAM2, value: float) -> None:
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[2].bias.fill_(value)


@pytest.fixture(scope="module", autouse=True)
def _all_features_stay() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sam2kit.predict.session._KEPT_FEATURES", 100)
        yield


@pytest.fixture(scope="module")
def tiny() -> tuple[SAM2, OrderedDict]:
    """The tiny 2.1 model, and the features of the clip's frames, shared by many scenarios."""
    return golden_model("tiny", "2.1"), OrderedDict()


@pytest.fixture(scope="module")
def begun(tiny: tuple[SAM2, OrderedDict], _all_features_stay: None) -> Session:
    """The session after the first steps of the main scenario, where several others begin too."""
    scenario = Scenario(tiny[0], "video-tiny-2.1", "main", 8, tiny[1])
    first_steps(scenario)
    return scenario.session


@pytest.mark.slow
def test_tiny_main(tiny: tuple[SAM2, OrderedDict], begun: Session) -> None:
    later_steps(Scenario(tiny[0], "video-tiny-2.1", "main", 8, tiny[1], begun=begun))


@pytest.mark.parametrize(
    ("play", "frames"),
    [
        pytest.param(mask, 8, marks=pytest.mark.slow),
        (clicks, 3),
        pytest.param(multicond, 8, marks=pytest.mark.slow),
        pytest.param(long, 20, marks=pytest.mark.slow),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_tiny(tiny: tuple[SAM2, OrderedDict], play: Callable[[Scenario], None], frames: int) -> None:
    play(Scenario(tiny[0], "video-tiny-2.1", play.__name__, frames, tiny[1]))


@pytest.mark.slow
def test_corrected_frames_condition(tiny: tuple[SAM2, OrderedDict], begun: Session) -> None:
    options = {"corrected_frames_condition": True}
    correction(Scenario(tiny[0], "video-tiny-2.1-correct_as_cond", "ascond", 8, tiny[1], begun=begun, **options))


def test_rounding_to_little_space_changes_nothing_visible(nano: SAM2) -> None:
    shown = {}
    for exact in (True, False):
        predictor = VideoPredictor(nano, VideoOptions(exact_logits=exact))
        session = predictor.open(inputs.clip(4))
        predictor.add_box(session, 0, 1, BOX)
        shown[exact] = np.stack([f.mask(1) for f in predictor.propagate(session)])
    assert shown[True].any()
    assert np.mean(shown[True] != shown[False]) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "name", "frames", "play", "options"),
    [
        ("fp32memory", "fp32mem", 4, first_steps, {"memory_dtype": torch.float32}),
        ("fill8-nonoverlap", "fill", 3, first_steps, {"max_hole_area": 8.0, "exclusive": True}),
        ("absent", "absent", 8, absent, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tiny_variants(
    tiny: tuple[SAM2, OrderedDict], file: str, name: str, frames: int, play: Callable[[Scenario], None], options: dict
) -> None:
    model, features = tiny
    scenario = Scenario(model, f"video-tiny-2.1-{file}", name, frames, features, **options)
    bias = model.sam_mask_decoder.pred_obj_score_head.layers[2].bias.item()
    try:
        if play is absent:
            set_score_bias(model, -1.6)
        play(scenario)
    finally:
        set_score_bias(model, bias)


@pytest.mark.slow
def test_version_2_0() -> None:
    model, features = golden_model("tiny", "2.0"), OrderedDict()
    first_steps(Scenario(model, "video-tiny-2.0", "main", 8, features))  # later steps add nothing that 2.1 has not
    mask(Scenario(model, "video-tiny-2.0", "mask", 8, features))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "base_plus", "large"])
def test_larger_sizes(size: str) -> None:
    model = golden_model(size, "2.1")
    set_score_bias(model, 6.0)
    first_steps(Scenario(model, f"video-{size}-2.1", "main", 4, OrderedDict()))
    del model
    gc.collect()
