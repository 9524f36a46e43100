"""Whatever is done for speed on a GPU, run on the CPU: the same masks, and shapes that stay.

Only the CUDA graph itself is not reached here; in its place stands what copies and calls as a graph does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sam2kit.media.clip import Clip
from sam2kit.media.clips import open_clip
from sam2kit.model.memory_bank import Memories
from sam2kit.model.sam2 import SAM2
from sam2kit.predict import cuda_graphs, pipelining
from sam2kit.predict.cuda_graphs import CudaGraphs, Function, OnceShapesRepeat
from sam2kit.predict.geometry import frame_to_square, frame_to_square_on
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.options import MemorySelection, SpeedOptions, VideoOptions
from sam2kit.predict.pipelining import FastTracker, MemoryKeys
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import load_model
from tests.predict.conftest import FRAMES

EVERY_WAY = [
    SpeedOptions(frames_ahead=3),
    SpeedOptions(memory_keys=True),
    SpeedOptions(cuda_graphs=True, memory_keys=True),
    pytest.param(SpeedOptions(compile=True), marks=pytest.mark.slow),
    SpeedOptions.fastest(),
]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile finds one graph without breaks, and runs it as it is: generating code would take minutes."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stands for CUDA graphs: reads its own inputs, writes its own results; gives the numbers of inputs recorded."""
    made: list[int] = []

    def record(function: Function, inputs: Sequence[Tensor]) -> tuple[Callable[[], None], list[Tensor]]:
        made.append(len(inputs))
        results = [t.clone() for t in function(*inputs)]

        def play() -> None:
            for mine, now in zip(results, function(*inputs), strict=True):
                mine.copy_(now)

        return play, results

    monkeypatch.setattr(CudaGraphs, "record", staticmethod(record))
    return made


def predictor_of(
    model: SAM2, options: VideoOptions | None = None, speed: SpeedOptions | None = None, *, overlaps: bool = False
) -> VideoPredictor:
    """A predictor that takes a frame's work in hand before the last answer is read, if asked for."""
    predictor = VideoPredictor(model, options, speed=SpeedOptions() if overlaps and speed is None else speed)
    if overlaps:
        assert isinstance(predictor.tracker, FastTracker)
        predictor.tracker.overlaps = True
    return predictor


def clicked(predictor: VideoPredictor, source: Any) -> Session:
    session = predictor.open(source)
    predictor.add_points(session, 0, 1, [[10, 20]])
    return session


def tracked(
    model: SAM2, source: Any, speed: SpeedOptions | None = None, options: VideoOptions | None = None
) -> Session:
    """Two objects, one of them corrected on the way, followed to both ends."""
    predictor = predictor_of(model, options, speed)
    session = predictor.open(source)
    predictor.add_points(session, 3, "first", [[16, 20]])
    predictor.add_points(session, 3, "second", [[44, 34]])
    for done, _ in enumerate(predictor.propagate(session, 3)):
        if done == 4:
            predictor.add_points(session, 12, "second", [[26, 34]])
    return session


def masks_of(session: Session) -> Tensor:
    return torch.stack([session.masks(frame).low_res for frame in range(len(session))])


@pytest.mark.parametrize("speed", EVERY_WAY, ids=repr)
@pytest.mark.usefixtures("traced", "replayed")
def test_masks_are_the_same(present: SAM2, clip: np.ndarray, speed: SpeedOptions) -> None:
    wanted = masks_of(tracked(present, clip))
    got = masks_of(tracked(present, clip, speed))
    assert wanted.std() > 1, "there is something to compare"
    # a frame that is resized in another way, and logits that are rounded to a sixteenth
    assert ((got - wanted).abs() <= 0.5).float().mean() > 0.99
    assert ((got > 0) == (wanted > 0)).float().mean() > 0.995


def test_what_is_remembered_is_made_of_what_is_kept(present: SAM2, clip: np.ndarray) -> None:
    """So a memory that was forgotten comes out the same, to the bit."""
    for exact in (False, True):
        session = tracked(present, clip, options=VideoOptions(forget=False, exact_logits=exact))
        track, tracker = session.objects["first"], VideoPredictor(present).tracker
        for frame in (6, 10, 19):
            made = track.memories.pop(frame)
            tracker._remember(session, [track], frame)
            assert torch.equal(track.memories[frame], made)


def test_only_shapes_that_stay_are_recorded(present: SAM2, clip: np.ndarray, replayed: list[int]) -> None:
    predictor = VideoPredictor(present, speed=SpeedOptions(cuda_graphs=True))
    session = clicked(predictor, clip)
    for frame in predictor.propagate(session):
        if frame.frame_index <= session.pointer_reach:
            assert not replayed, "the memory bank still fills"
    assert len(replayed) == 1
    for _ in predictor.propagate(session):
        pass
    assert len(replayed) == 1, "the next time it is there"


@pytest.mark.parametrize("selection", ["latest", "anchored"])
def test_overlapping_is_the_same_to_the_bit_whatever_is_done_between_two_frames(
    present: SAM2, clip: np.ndarray, selection: MemorySelection
) -> None:
    """The next frame begins before this one's answer is read, as on a GPU."""

    def interrupted(overlaps: bool) -> tuple[list[tuple[Hashable, ...]], Session]:
        predictor = predictor_of(
            present, VideoOptions(exact_logits=True, memory_selection=selection), overlaps=overlaps
        )
        session = predictor.open(clip)
        predictor.add_points(session, 2, "stays", [[16, 20]])
        predictor.add_points(session, 2, "goes", [[44, 34]])
        shown = []
        for frame in predictor.propagate(session):
            shown.append((frame.frame_index, *frame.object_ids))
            if frame.frame_index == 5:
                predictor.add_points(session, 5, "stays", [[20, 22]], [0])
            if frame.frame_index == 9:
                session.remove_object("goes")
            if frame.frame_index == 12:
                predictor.add_box(session, 13, "stays", [10, 10, 40, 30])
            if frame.frame_index == 15:
                session.options = replace(session.options, corrected_frames_condition=False, max_hole_area=0)
        for frame in predictor.propagate(session, 6, "forward", 5):
            shown.append((frame.frame_index, *frame.object_ids))
        return shown, session

    (shown, wanted), (shown_early, got) = interrupted(False), interrupted(True)
    assert shown_early == shown
    assert torch.equal(masks_of(got), masks_of(wanted))


def test_fewer_objects_at_once_where_memory_is_short(
    present: SAM2, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as fit, without losing a frame."""
    together, recall = [], present.recall

    def short(stride16: Tensor, memories: Memories) -> Tensor:
        together.append(len(memories.maps))
        if len(memories.maps) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return recall(stride16, memories)

    def run() -> Tensor:
        predictor = VideoPredictor(present)
        session = predictor.open(clip[:6])
        for number in range(5):
            predictor.add_points(session, 0, number, [[10 + 8 * number, 20]])
        for _ in predictor.propagate(session):
            pass
        return masks_of(session)

    wanted = run()
    monkeypatch.setattr(present, "recall", short)
    torch.testing.assert_close(run(), wanted, atol=0.07, rtol=0)
    assert together[:3] == [5, 2, 2] and max(together[1:]) == 2


def test_memory_keys_go_with_their_memories_and_have_little_room(
    present: SAM2, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = MemoryKeys(present, True)
    monkeypatch.setattr(pipelining, "_ELSEWHERE", 3 * 4 * 8 * 4)  # bytes of three
    apart = []
    while kept.has_room:
        apart += kept.keep([torch.randn(4, 2, 2)], torch.randn(1, 1, 4, 8))
    found = kept.of(apart)
    assert found is not None and [k.shape for k in found] == [(1, 4, 8)] * 3
    assert kept.of([*apart, torch.randn(4, 2, 2)]) is None, "of one there are none"
    del apart[0]
    assert kept.has_room and len(kept._kept) == 2
    kept.give_up()
    assert not kept.has_room and kept.of(apart) is None
    assert not MemoryKeys(present, None).has_room, "a CPU keeps none"
    wanted, config = masks_of(tracked(present, clip)), present.config
    one = config.memory.attention_layers * config.embedding_side**2 * config.hidden_dim * 4
    monkeypatch.setattr(pipelining, "_ELSEWHERE", 5 * one)
    got = masks_of(tracked(present, clip, SpeedOptions(memory_keys=True)))
    assert ((got - wanted).abs() <= 0.5).float().mean() > 0.99


class TestCudaGraphs:
    def test_plays_for_the_latest_shapes_what_was_recorded(
        self, replayed: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cuda_graphs, "_MOST_GRAPHS", 4)
        double = CudaGraphs(lambda a, b: (2 * a, a + b))
        ones, twos = torch.ones(2), torch.full((2,), 2.0)
        first, second = double(ones, twos), double(twos, twos)
        assert [t.tolist() for t in first] == [[2, 2], [3, 3]], "a later call does not change it"
        assert [t.tolist() for t in second] == [[4, 4], [4, 4]]
        assert len(replayed) == len(double) == 1
        for size, recorded in ((1, 2), (3, 3), (4, 4), (2, 4), (5, 5), (2, 5), (1, 6)):
            assert double(torch.ones(size), torch.ones(size))[0].shape == (size,)
            assert len(replayed) == recorded and len(double) <= 4, "the one that was not used longest goes"

    @pytest.mark.parametrize("kind", [RuntimeError, torch.OutOfMemoryError])
    def test_a_recording_that_fails(self, kind: type[RuntimeError]) -> None:
        def fails(function: Function, inputs: Sequence[Tensor]) -> NoReturn:
            raise kind("operation not permitted when stream is capturing")

        double = CudaGraphs(lambda a: (2 * a,))
        double.record = fails
        with pytest.warns(UserWarning, match="tracking goes on without: operation not permitted") as stated:
            assert [double(torch.ones(n))[0].shape[0] for n in (1, 1, 2)] == [1, 1, 2]
        assert len(stated) == 1 and len(double) == 0

    def test_shapes_that_come_once(self) -> None:
        ways: list[str] = []
        work = OnceShapesRepeat(lambda a: (ways.append("plain"), (a,))[1], lambda a: (ways.append("prepared"), (a,))[1])
        for size in (1, 2, 3, 3, 3, 4, 3, *range(5, 13), 3):
            work(torch.ones(size))
        assert ways == ["plain"] * 3 + ["prepared"] * 2 + ["plain", "prepared"] + ["plain"] * 9


class TestFramesAhead:
    @pytest.mark.usefixtures("traced")
    @pytest.mark.parametrize("compiles", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_frames_are_encoded_together(
        self, present: SAM2, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch, compiles: bool
    ) -> None:
        together, compiled, encode, plain_compile = [], [], present.encode_image, torch.compile

        def noted(pixels: Tensor) -> object:
            together.append(len(pixels))
            return encode(pixels)

        def compile_noted(work: Callable[..., Any], **options: Any) -> Callable[..., Any]:
            if work is not noted:
                return plain_compile(work, **options)
            return lambda pixels: (compiled.append(len(pixels)), noted(pixels))[1]

        monkeypatch.setattr(present, "encode_image", noted)
        monkeypatch.setattr(torch, "compile", compile_noted)
        predictor = VideoPredictor(present, speed=SpeedOptions(frames_ahead=4, compile=compiles))
        session = clicked(predictor, _AtOnce(clip))
        assert together == [1]
        for _ in predictor.propagate(session, 0, "forward"):
            _wait_for_thread()
        assert sum(together) == FRAMES, "none twice"
        assert max(together) == 4 and len(together) <= 1 + 6
        assert set(compiled) == ({4} if compiles else set()), "compiled code has one size of batch"

    @pytest.mark.parametrize(("ahead", "overlaps"), [(4, False), (0, True), (4, True)])
    def test_a_frame_that_cannot_be_read_fails_in_its_turn(
        self, present: SAM2, clip: np.ndarray, ahead: int, overlaps: bool
    ) -> None:
        predictor = predictor_of(present, None, SpeedOptions(frames_ahead=ahead), overlaps=overlaps)
        session = clicked(predictor, _AtOnce(clip, broken=6))
        going = predictor.propagate(session, 0, "forward")
        assert [next(going).frame_index for _ in range(6)] == list(range(6))
        with pytest.raises(ValueError, match="frame 6 is broken"):
            next(going)
        assert session.plan[0].frame == 6, "and the rest can still be done"
        assert max(session.objects[1].tracked) == 5

    def test_the_thread_ends_with_the_propagation(self, present: SAM2, clip: np.ndarray) -> None:
        predictor = VideoPredictor(present, speed=SpeedOptions(frames_ahead=4))
        for whole in (True, False):
            going = predictor.propagate(clicked(predictor, clip), 0, "forward")
            next(going)
            assert _threads() == 1
            for _ in going if whole else ():
                pass
            going.close()
            assert _threads() == 0

    def test_large_frames_leave_room_in_the_cache(self, present: SAM2) -> None:
        huge = _AtOnce(np.zeros((1, 8, 8, 3), np.uint8))
        huge.size_hw = (4320, 7680)
        with predictor_of(present, None, SpeedOptions(frames_ahead=8)).tracker.frames_ahead(Session(huge)) as ahead:
            assert ahead._in_thread == 1
        with pytest.raises(ValueError, match="frames_ahead must be 0 frames or more, got -1"):
            SpeedOptions(frames_ahead=-1)


class _AtOnce(Clip):
    """Frames in memory; one may be broken."""

    def __init__(self, frames: np.ndarray, broken: int = -1) -> None:
        whole = open_clip(frames)
        self._frames, self._broken = frames, broken
        self.size_hw, self.timestamps, self.last_duration = whole.size_hw, whole.timestamps, whole.last_duration

    def _read(self, index: int) -> np.ndarray:
        if index == self._broken:
            raise ValueError(f"frame {index} is broken")
        return self._frames[index].copy()


def _threads() -> int:
    return sum(t.name.startswith("frames ahead") for t in threading.enumerate())


def _wait_for_thread() -> None:
    """Frames of a few pixels are decoded at once, but by another thread."""
    threading.Event().wait(0.02)


def test_frames_resized_on_a_device_are_those_of_the_cpu(assets: Any) -> None:
    frame = np.array(Image.open(assets / "photos/astronaut.jpg").convert("RGB"))
    for side in (256, 1024):
        off = (frame_to_square_on(torch.device("cpu"), frame, side) - frame_to_square(frame, side)).abs()
        level = 1 / 255 / 0.224  # one of 255, of the most stretched channel
        assert off.max() <= 2.001 * level
        assert (off > level / 2).float().mean() < 0.02


def test_weights_of_sixteen_bits(nano: SAM2, assets: Any) -> None:
    """Clicks keep their places, and masks are nearly those of float32."""
    small = load_model("nano", "cpu", "bfloat16").cast_weights(torch.bfloat16)
    assert {p.dtype for p in small.parameters()} == {torch.bfloat16}
    assert small.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.dtype == torch.float32
    masks = []
    for model in (nano, small):
        predictor = ImagePredictor(model)
        embedding = predictor.encode(assets / "photos/astronaut.jpg")
        masks.append(predictor.predict(embedding, Prompt(box_xyxy=[80, 10, 330, 505])).masks[0, 0])
    assert (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum() > 0.95
