"""The code that runs on a CUDA GPU, run on a device that is not there: see pretend_cuda.py.

Pictures and videos come out as on the CPU, no op gets tensors of both devices, the host waits once a frame at most,
never inside of a graph, and no attention has a mask. Training and the app are in test_pretended_cuda_work.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision  # noqa: F401 - before a device is pretended: what it imports asks for one
import torch
from PIL import Image

from sam2kit.compat import SAM2ImagePredictor, SAM2VideoPredictor
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions
from sam2kit.predict.frame_masks import FrameMasks
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.options import ImageOptions, SpeedOptions, VideoOptions
from sam2kit.predict.pipelining import FastTracker
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.video import VideoPredictor
from tests.pretend_cuda import CaptureError, EarlyRead, OnCuda, Race, pretend_cuda
from tests.toy_model import toy_model

FRAMES = np.random.default_rng(1).integers(0, 256, (9, 40, 60, 3), np.uint8)
LONG = np.random.default_rng(2).integers(0, 256, (48, 40, 60, 3), np.uint8)
SQUARE = np.zeros((40, 60), bool)
SQUARE[10:30, 20:45] = True
STEADY = 20
Shown = list[tuple[int, np.ndarray]]


def model_on(device: str, dtype: str = "float32", *, cast: bool = False) -> SAM2:
    """A toy model that sees objects; with `cast`, its weights are in half precision, too."""
    model = toy_model()
    with torch.no_grad():
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(5.0)
    model.compute_dtype = getattr(torch, dtype)
    model = model.to(device)
    return model.cast_weights(getattr(torch, dtype)) if cast else model


# the device itself


def test_what_goes_wrong_on_a_gpu_goes_wrong_here() -> None:
    with pretend_cuda() as notes:
        there, here = torch.ones(3, 4, device="cuda"), torch.ones(3, 4)
        assert there.is_cuda and there.device == torch.device("cuda", 0) and torch.cuda.device_count() == 1
        for mixed in (lambda: there + here, lambda: torch.cat([there, here]), lambda: here[there > 0]):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        with pytest.raises(TypeError, match="numpy"):
            np.asarray(there)
        notes.clear()
        assert (there * 2 + 1)[1, 2].item() == 3
        assert there[torch.ones(3, 4, device="cuda") > 0].cpu().tolist() == [1] * 12
        torch.cuda.synchronize()
        assert [kind for kind, _, _ in notes.waits] == ["item", "shape", "D2H", "sync"], notes.table()
        with notes.capturing(), pytest.raises(CaptureError, match="item"):
            bool(there.sum() > 0)
        later, aside = there * 2, torch.cuda.Stream(priority=-1)
        with torch.cuda.stream(aside):
            with pytest.raises(Race):
                later.sum()
            aside.wait_stream(torch.cuda.default_stream())
            doubled = later * 2
            done = aside.record_event()
        with pytest.raises(Race):
            doubled.sum()
        torch.cuda.current_stream().wait_event(done)
        assert doubled.sum().item() == 48


def test_copies_arrive_when_an_event_says_so() -> None:
    with pretend_cuda() as notes:
        there, pageable = torch.ones(3, 4, device="cuda"), torch.ones(5)
        notes.clear()
        pageable.to("cuda", non_blocking=True)
        assert [kind for kind, _, _ in notes.waits] == ["H2D pageable"]
        notes.clear()
        pinned = pageable.pin_memory()
        arrived = pinned.to("cuda", non_blocking=True)
        copy = there.to("cpu", non_blocking=True)
        buffer = torch.empty(3, 4, pin_memory=True)
        buffer.copy_(there, non_blocking=True)
        reads: list[Callable[[], Any]] = [copy.numpy, copy.tolist, buffer.sum, lambda: buffer[0, 0].item()]
        for early in (*reads, lambda: pinned.fill_(7)):
            with pytest.raises(EarlyRead):
                early()
        assert not notes.waits, notes.table()
        event = torch.cuda.Event()
        event.record()
        event.synchronize()
        for read in reads:
            read()
        pinned.fill_(7)
        assert arrived.cpu().tolist() == [1] * 5
        assert notes.copies == {"H2D pinned": 1, "D2H pinned": 2}


def test_a_graph_plays_what_was_recorded() -> None:
    with pretend_cuda():
        given = torch.arange(3.0, device="cuda")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=torch.cuda.graph_pool_handle()):
            result = (given * 2)[1:] + 1
            with pytest.raises(CaptureError):
                result.cpu()
        assert torch.isnan(result).all(), "nothing has been computed yet"
        for start in (0.0, 5.0):
            given.copy_(torch.arange(start, start + 3))
            graph.replay()
            assert result.tolist() == [2 * start + 3, 2 * start + 5]


# pictures


def picture_answers(model: SAM2) -> Iterator[tuple[str, torch.Tensor]]:
    """Logits for all kinds of prompts on two pictures."""
    predictor = ImagePredictor(model)
    embedding, other = predictor.encode_batch([FRAMES[0], LONG[1, :30, :50]])
    click = Prompt([[30, 20]])
    first = predictor.predict(embedding, click)
    prompts = {
        "three clicks": Prompt([[30, 20], [5, 5], [50, 30]], labels=[1, 0, 1]),
        "two boxes": Prompt(box_xyxy=[[10, 4, 50, 32], [1, 1, 20, 20]]),
        "box and click": Prompt([[30, 20]], box_xyxy=[10, 4, 50, 32]),
        "mask": Prompt([[30, 20]], mask_logits=first.best().low_res[0]),
        "batch": Prompt(np.linspace(1, 39, 18).reshape(9, 1, 2)),
    }
    for name, prompt in prompts.items():
        yield name, predictor.predict(embedding, prompt).low_res.cpu()
    yield "second picture", predictor.predict(other, click).low_res.cpu()
    yield "moved", predictor.predict(embedding.to("cpu"), click).low_res.cpu()
    official = SAM2ImagePredictor(model)
    official.set_image(FRAMES[0])
    yield "official", torch.from_numpy(official.predict([[30, 20]], [1])[2])
    if model.compute_dtype == torch.float32:
        cleans = predictor.with_options(ImageOptions(max_hole_area=20, max_speck_area=20))
        cleaned = cleans.predict(embedding, click)
        yield "cleaned", cleaned.best().logits.cpu()
        assert len(cleaned.to_detections()) == 1


@pytest.mark.parametrize(
    ("dtype", "cast", "tolerance"),
    [
        ("float32", False, 1e-4),
        ("bfloat16", False, 0.1),
        ("bfloat16", True, 0.1),
        ("float16", False, 0.02),
        ("float16", True, 0.02),
    ],
)
def test_pictures_as_on_the_cpu(dtype: str, cast: bool, tolerance: float) -> None:
    expected = dict(picture_answers(model_on("cpu")))
    with pretend_cuda():
        found = dict(picture_answers(model_on("cuda", dtype, cast=cast)))
    for name, logits in found.items():
        error = (logits - expected[name]).abs().max() / expected[name].std()
        assert error < tolerance, f"{name}: {error:.4f} of a standard deviation"


@pytest.mark.slow
def test_everything_in_a_picture() -> None:
    options = AutomaticOptions(
        points_per_side=3, min_predicted_iou=0, min_stability=0, crop_layers=1, refine=True, min_region_area=9
    )
    expected = AutomaticMasks(model_on("cpu"), options).generate(FRAMES[0])
    with pretend_cuda():
        found = AutomaticMasks(model_on("cuda"), options).generate(FRAMES[0])
    assert expected
    assert [f.runs for f in found] == [f.runs for f in expected]


# videos


def masks_of(frame: FrameMasks) -> tuple[int, np.ndarray]:
    return frame.frame_index, frame.masks


def both_ways(predictor: VideoPredictor, folder: Path) -> Iterator[tuple[int, np.ndarray]]:
    """A click, a box and a mask, tracked both ways, with a correction on the way and a second round from it."""
    session = predictor.open(FRAMES)
    yield masks_of(predictor.add_points(session, 3, "click", [[30, 20]]))
    yield masks_of(predictor.add_box(session, 3, "box", [10, 4, 50, 32]))
    yield masks_of(predictor.add_mask(session, 3, "mask", SQUARE))
    for frame in predictor.propagate(session):
        yield masks_of(frame)
        if frame.frame_index == 6:
            yield masks_of(predictor.add_points(session, 5, "click", [[12, 30]], labels=[0]))
    yield from map(masks_of, predictor.propagate(session, 5, "backward", 3))


def joining_leaving_saved(predictor: VideoPredictor, folder: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Objects begin at different frames; one goes while tracking is under way, which then goes on from a file."""
    session = predictor.open(FRAMES)
    for frame, name in ((0, "a"), (2, "b"), (5, "c")):
        predictor.add_points(session, frame, name, [[30, 20 + frame]])
    predictor.add_points(session, 4, "b", [[8, 8]])
    for found in predictor.propagate(session, direction="forward"):
        yield masks_of(found)
        if found.frame_index == 3:
            session.remove_object("a")
            break
    predictor.save(session, folder / "half.sam2kit", with_path=False)
    again = predictor.load(folder / "half.sam2kit", FRAMES)
    yield from map(masks_of, predictor.resume(again))
    again.clear(4, "b")
    yield from map(masks_of, predictor.propagate(again, direction="backward"))


def streamed(predictor: VideoPredictor, folder: Path) -> Iterator[tuple[int, np.ndarray]]:
    stream = predictor.stream()
    for number, frame in enumerate(FRAMES):
        found = stream.push(frame)
        if len(found):
            yield masks_of(found)
        if number == 0:
            yield masks_of(stream.add_points("a", [[30, 20]]))
        if number == 3:
            stream.add_box("b", [10, 4, 50, 32])
        if number == 6:
            stream.remove_object("a")


STORIES = [
    (both_ways, VideoOptions(), None),
    (both_ways, VideoOptions.official(exclusive=True), None),
    (joining_leaving_saved, VideoOptions(exact_logits=True), None),
    (streamed, VideoOptions(), None),
    (both_ways, VideoOptions(), SpeedOptions.fastest()),
    (joining_leaving_saved, VideoOptions(), SpeedOptions(frames_ahead=3, cuda_graphs=True)),
    (streamed, VideoOptions(), SpeedOptions(cuda_graphs=True)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("story", "options", "speed"), STORIES)
def test_videos_as_on_the_cpu(story: Any, options: VideoOptions, speed: SpeedOptions | None, tmp_path: Path) -> None:
    expected = list(story(VideoPredictor(model_on("cpu"), options), tmp_path))
    with pretend_cuda():
        found = list(story(VideoPredictor(model_on("cuda"), options, speed=speed), tmp_path))
    same_masks(expected, found)


def same_masks(expected: Shown, found: Shown) -> None:
    assert [frame for frame, _ in found] == [frame for frame, _ in expected]
    assert any(mask.any() and not mask.all() for _, mask in expected), "else equal masks say nothing"
    for (frame, before), (_, now) in zip(expected, found, strict=True):
        assert now.shape == before.shape
        # a level of 255 apart where the device resizes
        assert np.mean(before != now) < 0.01, f"frame {frame}"


def tracked(predictor: VideoPredictor, frames: np.ndarray, objects: int = 1, *, mask: bool = False) -> Shown:
    session = predictor.open(frames)
    for number in range(objects):
        predictor.add_points(session, 0, number, [[3 + 3 * number, 20]])
    if mask:
        predictor.add_mask(session, 1, "mask", SQUARE)
    return [masks_of(frame) for frame in predictor.propagate(session)]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("cast", "speed"),
    [
        pytest.param(False, None, id="autocast", marks=pytest.mark.slow),
        pytest.param(True, SpeedOptions.fastest(), id="cast, fastest"),
    ],
)
def test_videos_in_half_precision(dtype: str, cast: bool, speed: SpeedOptions | None) -> None:
    """They run, and most pixels stay."""
    expected = tracked(VideoPredictor(model_on("cpu")), FRAMES[:5], mask=True)
    with pretend_cuda() as notes:
        predictor = VideoPredictor(model_on("cuda", dtype, cast=cast), speed=speed)
        found = tracked(predictor, FRAMES[:5], mask=True)
    assert {kind for kind, _, _ in notes.attention} == {dtype}
    wrong = [np.mean(before != now) for (_, before), (_, now) in zip(expected, found, strict=True)]
    assert np.mean(wrong) < 0.1, wrong


@pytest.mark.slow
def test_the_official_video_predictor(tmp_path: Path) -> None:
    for number, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(tmp_path / f"{number:05d}.jpg")

    def official(device: str) -> Shown:
        predictor = SAM2VideoPredictor(model_on(device))
        state = predictor.init_state(str(tmp_path), offload_video_to_cpu=True, offload_state_to_cpu=True)
        predictor.add_new_points_or_box(state, frame_idx=2, obj_id=1, points=[[30, 20]], labels=[1])
        predictor.add_new_mask(state, 2, 2, SQUARE)
        shown = [*predictor.propagate_in_video(state)]
        predictor.remove_object(state, 2)
        shown += predictor.propagate_in_video(state, reverse=True)
        return [(t, (logits > 0).cpu().numpy()) for t, _, logits in shown]

    expected = official("cpu")
    with pretend_cuda():
        same_masks(expected, official("cuda"))


# counts


@pytest.mark.parametrize(
    ("speed", "direction"),
    [pytest.param(None, "forward", marks=pytest.mark.slow), (SpeedOptions.fastest(), "backward")],
)
def test_a_tracked_frame_waits_once(speed: SpeedOptions | None, direction: Any) -> None:
    """With two objects and a full memory; the caller reads a frame's masks waits once more, for their copy."""
    with pretend_cuda() as notes:
        predictor = VideoPredictor(model_on("cuda", "bfloat16", cast=True), speed=speed)
        session = predictor.open(LONG[: 18 + STEADY + 2])
        begin = 0 if direction == "forward" else len(session) - 1
        for number in range(2):
            predictor.add_points(session, begin, number, [[30, 20 + number]])
        going = predictor.propagate(session, direction=direction)
        for _ in range(18):
            next(going)
        notes.clear()
        for _ in range(STEADY):
            found = next(going)
        assert sum(notes.waits.values()) / STEADY <= 1, notes.table(STEADY)
        notes.clear()
        assert found.masks.any()
        assert sum(notes.waits.values()) <= 1, notes.table()


@pytest.mark.parametrize("exact", [False, True])
def test_nothing_waits_inside_of_the_graph(exact: bool) -> None:
    """The work of a frame, called within a capture each time; the real recording is part of the stories above."""
    with pretend_cuda() as notes:
        predictor = VideoPredictor(model_on("cuda", "bfloat16", cast=True), VideoOptions(exact_logits=exact))
        assert isinstance(predictor.tracker, FastTracker)
        functions = predictor.tracker._functions
        plain, calls = functions.track, list[int]()

        def captured_track(*given: Any, **more: Any) -> Any:
            calls.append(1)
            if len(calls) <= 2:  # tables of positions are made by the first calls
                return plain(*given, **more)
            with notes.capturing():
                return plain(*given, **more)

        functions.track = captured_track  # type: ignore[method-assign]
        session = predictor.open(FRAMES)
        predictor.add_points(session, 0, "a", [[30, 20]])
        predictor.add_points(session, 4, "a", [[12, 20]])
        list(predictor.propagate(session))
        assert len(calls) == 7


@pytest.mark.parametrize(
    ("prompted", "direction"),
    [
        pytest.param((0,), "forward", marks=pytest.mark.slow),
        ((0, 6), "backward"),
        pytest.param((2, 8, 14), "forward", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_attention_has_no_mask(prompted: tuple[int, ...], direction: Any) -> None:
    """After any prompts, from the first tracked frame to the last."""
    with pretend_cuda() as notes:
        predictor = VideoPredictor(model_on("cuda", "bfloat16", cast=True), speed=SpeedOptions.fastest())
        session = predictor.open(LONG[:24])
        for frame in prompted:
            predictor.add_points(session, frame if direction == "forward" else 23 - frame, "a", [[30, 20]])
        list(predictor.propagate(session, direction=direction))
        assert notes.copies["graph replay"]
        assert not any(masked for _, masked, _ in notes.attention)


@pytest.mark.slow
def test_streams_are_kept() -> None:
    with pretend_cuda() as notes:
        for objects in (1, 2):
            tracked(VideoPredictor(model_on("cuda"), speed=SpeedOptions.fastest()), LONG[:20], objects)
            assert notes.copies["graph replay"]
            notes.clear()
        assert notes.streams <= 2


# a full device


def test_fewer_objects_at_once_when_memory_is_short() -> None:
    expected = tracked(VideoPredictor(model_on("cpu")), LONG[:4], 16)
    with pretend_cuda() as notes:
        predictor = VideoPredictor(model_on("cuda"))
        width = predictor.model.config.hidden_dim  # of the memory attention alone
        notes.fail("scaled_dot_product_attention", when=lambda q: len(q) > 4 and q.shape[3] == width)
        found = tracked(predictor, LONG[:4], 16)
        assert {q[0] for _, _, q in notes.attention if q[3] == width} == {1, 4}
    same_masks(expected, found)


def test_a_capture_that_fails_is_told_once() -> None:
    expected = tracked(VideoPredictor(model_on("cpu")), LONG[:20])
    with pretend_cuda() as notes, warnings.catch_warnings(record=True) as stated:
        warnings.simplefilter("always")
        notes.fail("graph", error=RuntimeError("CUDA error: operation not permitted when stream is capturing"))
        found = tracked(VideoPredictor(model_on("cuda"), speed=SpeedOptions(cuda_graphs=True)), LONG[:20])
        assert not notes.copies["graph replay"]
    same_masks(expected, found)
    assert len([w for w in stated if "graph" in str(w.message).lower()]) == 1, [str(w.message) for w in stated]


def test_nothing_of_the_device_is_left() -> None:
    with pretend_cuda():
        tracked(VideoPredictor(model_on("cuda")), FRAMES[:3])
    assert not torch.cuda.is_available()
    assert not isinstance(torch.ones(1) + 1, OnCuda)
    tracked(VideoPredictor(model_on("cpu")), FRAMES[:3])
