"""Whatever is done for speed on a GPU, tried on the CPU: the same masks, and shapes that stay.

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

import sam2kit.predict.kept_keys as kept_keys
import sam2kit.predict.recorded as recorded
from sam2kit.media.clips import Clip, open_clip
from sam2kit.model import attention
from sam2kit.model.memories import Memories
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.frame_masks import VideoOptions
from sam2kit.predict.geometry import frame_to_square, frame_to_square_on
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.kept_keys import KeptKeys
from sam2kit.predict.pace import Pace
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.recorded import OnceShapesStay, Recorded
from sam2kit.predict.session import VideoSession
from sam2kit.predict.video import VideoPredictor
from tests.predict.conftest import FRAMES

EVERY_WAY = [Pace(ahead=3), Pace(keys=True), Pace(recorded=True, keys=True), Pace(compiled=True), Pace.fastest()]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile finds one graph without breaks, and runs it as it is: generating code would take minutes."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", fullgraph=True))


@pytest.fixture
def replayed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stands for CUDA graphs: reads its own inputs, writes its own results; gives the numbers of inputs recorded."""
    made: list[int] = []

    def record(function: recorded.Function, inputs: Sequence[Tensor]) -> tuple[Callable[[], None], list[Tensor]]:
        made.append(len(inputs))
        results = [t.clone() for t in function(*inputs)]

        def play() -> None:
            for mine, now in zip(results, function(*inputs), strict=True):
                mine.copy_(now)

        return play, results

    monkeypatch.setattr(recorded.Recorded, "__init__", _with(record))
    return made


def _with(record: recorded.Recorder) -> Callable:
    plain = recorded.Recorded.__init__
    return lambda self, function: plain(self, function, record)


def tracked(
    model: SAM2,
    source: np.ndarray | Clip,
    pace: Pace | None = None,
    options: VideoOptions | None = None,
    *,
    overlaps: bool = False,
) -> VideoSession:
    """Two objects, one of them corrected on the way, followed to both ends."""
    predictor = VideoPredictor(model, options, pace=pace)
    predictor.overlaps = overlaps
    session = predictor.open(source)
    predictor.add_points(session, 3, "first", [[16, 20]])
    predictor.add_points(session, 3, "second", [[44, 34]])
    going = predictor.propagate(session, 3)
    for _ in range(5):
        next(going)
    predictor.add_points(session, 12, "second", [[26, 34]])
    for _ in going:
        pass
    return session


def masks_of(session: VideoSession) -> Tensor:
    return torch.stack([session.masks(frame).low_res for frame in range(len(session))])


@pytest.mark.parametrize("pace", EVERY_WAY, ids=repr)
@pytest.mark.usefixtures("traced", "replayed")
def test_masks_are_the_same(present: SAM2, clip: np.ndarray, pace: Pace) -> None:
    wanted = masks_of(tracked(present, clip))
    got = masks_of(tracked(present, clip, pace))
    assert wanted.std() > 1, "there is something to compare"
    # a frame that is resized in another way, and logits that are rounded to a sixteenth
    assert ((got - wanted).abs() <= 0.5).float().mean() > 0.99
    assert ((got > 0) == (wanted > 0)).float().mean() > 0.995


def test_what_is_remembered_is_made_of_what_is_kept(present: SAM2, clip: np.ndarray) -> None:
    """So a memory that was forgotten comes out the same, to the bit."""
    for exact in (False, True):
        session = tracked(present, clip, options=VideoOptions(forget=False, exact_logits=exact))
        track, tracker = session.tracks["first"], VideoPredictor(present).tracker
        for frame in (6, 10, 19):
            made = track.memories.pop(frame)
            tracker._remember(session, [track], frame)
            assert torch.equal(track.memories[frame], made)


def test_only_shapes_that_stay_are_recorded(present: SAM2, clip: np.ndarray, replayed: list[int]) -> None:
    predictor = VideoPredictor(present, pace=Pace(recorded=True))
    session = predictor.open(clip)
    predictor.add_points(session, 0, 1, [[10, 20]])
    for frame in predictor.propagate(session):
        if frame.frame_index <= session.pointer_reach:
            assert not replayed, "the memory bank still fills"
    assert len(replayed) == 1
    for _ in predictor.propagate(session):
        pass
    assert len(replayed) == 1, "the next time it is there"


def test_nothing_is_masked_out(present: SAM2, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is prompted: the quickest kernels take no mask."""
    masks, plain = [], torch.nn.functional.scaled_dot_product_attention

    def noted(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **others: Any) -> Tensor:
        masks.append(attn_mask)
        return plain(query, key, value, attn_mask=attn_mask, **others)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    monkeypatch.setattr(attention, "_WEIGHTS", 0)
    tracked(present, clip, Pace.fastest())
    assert len(masks) > 100 and not any(mask is not None for mask in masks)


class TestOverlapping:
    """The next frame begins before this one's answer is read, as on a GPU."""

    def test_the_same_to_the_bit(self, present: SAM2, clip: np.ndarray) -> None:
        options = VideoOptions(exact_logits=True)
        wanted = masks_of(tracked(present, clip, options=options))
        assert torch.equal(masks_of(tracked(present, clip, options=options, overlaps=True)), wanted)

    def test_what_is_done_between_two_frames_counts(self, present: SAM2, clip: np.ndarray) -> None:
        def interrupted(overlaps: bool) -> tuple[list[tuple[Hashable, ...]], VideoSession]:
            predictor = VideoPredictor(present, VideoOptions(exact_logits=True))
            predictor.overlaps = overlaps
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
                    session.options = replace(session.options, corrections="lost", max_hole_area=0)
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


class TestKeptKeys:
    def test_they_go_with_their_memories(self, present: SAM2) -> None:
        kept, memories = KeptKeys(present, True), torch.randn(3, 4, 2, 2)
        apart = kept.kept_apart(memories, torch.randn(3, 1, 4, 8))
        assert [m.data_ptr() for m in apart] != [m.data_ptr() for m in memories]
        found = kept.of(apart)
        assert found is not None and [k.shape for k in found] == [(1, 4, 8)] * 3
        assert kept.of([*apart, memories[0]]) is None, "of one there are none"
        del apart[1:]
        assert len(kept._kept) == 1

    def test_there_is_room_for_so_many(self, present: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = KeptKeys(present, True)
        monkeypatch.setattr(kept_keys, "_ELSEWHERE", 3 * 4 * 8 * 4)  # bytes of three
        apart = []
        while kept.has_room:
            apart += kept.kept_apart(torch.randn(1, 4, 2, 2), torch.randn(1, 1, 4, 8))
        assert len(apart) == 3
        del apart[0]
        assert kept.has_room
        kept.give_up()
        assert not kept.has_room and kept.of(apart) is None
        assert not KeptKeys(present, None).has_room, "a CPU keeps none"

    def test_with_room_for_some_only(self, present: SAM2, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = masks_of(tracked(present, clip))
        cells, config = present.config.embedding_side**2, present.config
        one = config.memory.attention_layers * cells * config.hidden_dim * 4
        monkeypatch.setattr(kept_keys, "_ELSEWHERE", 5 * one)
        got = masks_of(tracked(present, clip, Pace(keys=True)))
        assert ((got - wanted).abs() <= 0.5).float().mean() > 0.99


class TestRecorded:
    def test_plays_for_each_shape_what_was_recorded(self, replayed: list[int]) -> None:
        double = Recorded(lambda a, b: (2 * a, a + b))
        ones, twos = torch.ones(2), torch.full((2,), 2.0)
        first = double(ones, twos)
        second = double(twos, twos)
        assert [t.tolist() for t in first] == [[2, 2], [3, 3]], "a later call does not change it"
        assert [t.tolist() for t in second] == [[4, 4], [4, 4]]
        assert double(torch.ones(3), torch.ones(3))[0].shape == (3,)
        assert len(replayed) == len(double) == 2

    def test_keeps_the_latest_few(self, replayed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        same = Recorded(lambda a: (a,))
        monkeypatch.setattr(recorded, "_KEPT", 4)
        for size in (1, 2, 3, 4, 1, 5):
            assert len(same(torch.ones(size))[0]) == size
        assert len(same) == 4 and len(replayed) == 5
        same(torch.ones(1))
        assert len(replayed) == 5, "it was used lately"
        same(torch.ones(2))
        assert len(replayed) == 6

    @pytest.mark.parametrize("kind", [RuntimeError, torch.OutOfMemoryError])
    def test_a_recording_that_fails(self, kind: type[RuntimeError]) -> None:
        def fails(function: recorded.Function, inputs: Sequence[Tensor]) -> NoReturn:
            raise kind("operation not permitted when stream is capturing")

        double = Recorded(lambda a: (2 * a,), fails)
        with pytest.warns(UserWarning, match="tracking goes on without: operation not permitted") as told:
            assert [double(torch.ones(n))[0].shape[0] for n in (1, 1, 2)] == [1, 1, 2]
        assert len(told) == 1 and len(double) == 0

    def test_shapes_that_come_once(self) -> None:
        ways: list[str] = []
        work = OnceShapesStay(lambda a: (ways.append("plain"), (a,))[1], lambda a: (ways.append("prepared"), (a,))[1])
        for size in (1, 2, 3, 3, 3, 4, 3, *range(5, 13), 3):
            work(torch.ones(size))
        assert ways == ["plain"] * 3 + ["prepared"] * 2 + ["plain", "prepared"] + ["plain"] * 9

    def test_a_cpu_has_nothing_to_record(self) -> None:
        plain = Recorded(lambda a: (a,))
        given = torch.ones(2)
        assert plain(given)[0] is given and len(plain) == 0


class TestFramesAhead:
    def test_frames_are_encoded_together(
        self, present: SAM2, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        together, encode = [], present.encode_image

        def noted(pixels: Tensor) -> object:
            together.append(len(pixels))
            return encode(pixels)

        monkeypatch.setattr(present, "encode_image", noted)
        predictor = VideoPredictor(present, pace=Pace(ahead=4))
        session = predictor.open(_AtOnce(clip))
        predictor.add_points(session, 0, 1, [[10, 20]])
        assert together == [1]
        for _ in predictor.propagate(session, 0, "forward"):
            _wait_for_thread()
        assert sum(together) == FRAMES, "none twice"
        assert max(together) == 4 and len(together) <= 1 + 6

    @pytest.mark.usefixtures("traced")
    def test_compiled_code_has_one_size_of_batch(
        self, present: SAM2, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compiled, encode = [], present.encode_image
        quick = torch.compile

        def noted(work: Callable[..., Any], **options: Any) -> Callable[..., Any]:
            if work != encode:
                return quick(work, **options)
            return lambda pixels: (compiled.append(len(pixels)), encode(pixels))[1]

        monkeypatch.setattr(torch, "compile", noted)
        predictor = VideoPredictor(present, pace=Pace(ahead=4, compiled=True))
        session = predictor.open(_AtOnce(clip[:12]))
        predictor.add_points(session, 0, 1, [[10, 20]])
        for _ in predictor.propagate(session, 0, "forward"):
            _wait_for_thread()
        assert compiled and set(compiled) == {4}

    @pytest.mark.parametrize(("ahead", "overlaps"), [(4, False), (0, True), (4, True)])
    def test_a_frame_that_cannot_be_read_fails_in_its_turn(
        self, present: SAM2, clip: np.ndarray, ahead: int, overlaps: bool
    ) -> None:
        predictor = VideoPredictor(present, pace=Pace(ahead=ahead))
        predictor.overlaps = overlaps
        session = predictor.open(_AtOnce(clip, broken=6))
        predictor.add_points(session, 0, 1, [[10, 20]])
        going = predictor.propagate(session, 0, "forward")
        assert [next(going).frame_index for _ in range(6)] == list(range(6))
        with pytest.raises(ValueError, match="frame 6 is broken"):
            next(going)
        assert session.plan[0].frame == 6, "and the rest can still be done"

    def test_the_thread_ends_with_the_propagation(self, present: SAM2, clip: np.ndarray) -> None:
        for whole in (True, False):
            predictor = VideoPredictor(present, pace=Pace(ahead=4))
            session = predictor.open(clip)
            predictor.add_points(session, 0, 1, [[10, 20]])
            going = predictor.propagate(session, 0, "forward")
            next(going)
            assert _threads() == 1
            for _ in going if whole else ():
                pass
            going.close()
            assert _threads() == 0

    def test_large_frames_leave_room_in_the_cache(self, present: SAM2) -> None:
        session = VideoSession(_Huge())
        with VideoPredictor(present, pace=Pace(ahead=8)).tracker.ahead(session) as ahead:
            assert ahead._in_thread == 1

    def test_fewer_than_none(self) -> None:
        with pytest.raises(ValueError, match="ahead must be 0 frames or more, got -1"):
            Pace(ahead=-1)


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


class _Huge(_AtOnce):
    def __init__(self) -> None:
        super().__init__(np.zeros((1, 8, 8, 3), np.uint8))
        self.size_hw = (4320, 7680)


def _threads() -> int:
    return sum(t.name.startswith("frames ahead") for t in threading.enumerate())


def _wait_for_thread() -> None:
    """Frames of a few pixels are decoded at once, but by another thread."""
    threading.Event().wait(0.02)


def test_frames_resized_on_a_device_are_those_of_the_cpu() -> None:
    frame = np.array(Image.open("assets/photos/astronaut.jpg").convert("RGB"))
    for side in (256, 1024):
        off = (frame_to_square_on(torch.device("cpu"), frame, side) - frame_to_square(frame, side)).abs()
        level = 1 / 255 / 0.224  # one of 255, of the most stretched channel
        assert off.max() <= 2.001 * level
        assert (off > level / 2).float().mean() < 0.02


def test_weights_of_sixteen_bits(nano: SAM2) -> None:
    """Clicks keep their places, and masks are nearly those of float32."""
    from sam2kit.weights import load_model

    small = load_model("nano", "cpu", "bfloat16").cast_weights(torch.bfloat16)
    assert {p.dtype for p in small.parameters()} == {torch.bfloat16}
    assert small.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.dtype == torch.float32
    masks = []
    for model in (nano, small):
        predictor = ImagePredictor(model)
        embedding = predictor.encode("assets/photos/astronaut.jpg")
        box = Prompt(box_xyxy=[80, 10, 330, 505])
        masks.append(predictor.predict(embedding, box).masks[0, 0])
    assert (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum() > 0.95
