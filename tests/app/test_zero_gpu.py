"""A ZeroGPU Space gives bit for bit what other machines give, and nothing relies on what a forked process changes."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sam2kit.app import zero_gpu
from sam2kit.app.finetune_run import FinetunePlan, FinetuneRun, train, trainer_of
from sam2kit.app.jobs import seconds_per_frame
from sam2kit.app.models import load_for_app
from sam2kit.app.zero_gpu import (
    GpuWork,
    ZeroImagePredictor,
    ZeroVideoPredictor,
    automatic_masks,
    edge_steps,
    is_zero_gpu,
    pack,
    predictor_kinds,
    unpack,
)
from sam2kit.media.clips import open_clip
from sam2kit.media.mask_files import mask_to_runs
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions, run_steps
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.options import VideoOptions
from sam2kit.predict.prompts import FramePrompt, Prompt
from sam2kit.predict.refine import refining_steps
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor
from tests.app import fake_spaces
from tests.app.fake_spaces import FakeSpaces
from tests.app.moving_disc import centre, write_disc_clip
from tests.proof_data import write_coins


@pytest.mark.parametrize(("capability", "dtype"), [((9, 0), torch.bfloat16), ((7, 5), torch.float16)])
def test_weights_are_cast_once_where_the_gpu_is(
    toy: SAM2, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype
) -> None:
    to, moved = SAM2.to, []
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device=None: capability)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(SAM2, "to", lambda self, what: moved.append(what) or self if what == "cuda" else to(self, what))
    zero_gpu._settle(toy)
    assert (moved, toy.weight_dtype) == ([], torch.float32), "not in the app's own process"
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    monkeypatch.setattr(zero_gpu, "THREADS", SimpleNamespace(fix=lambda count: None))
    zero_gpu._settle(toy)
    assert (moved, toy.weight_dtype, toy.compute_dtype) == (["cuda"], dtype, dtype)


@pytest.fixture
def spaces(monkeypatch: pytest.MonkeyPatch) -> FakeSpaces:
    return fake_spaces.install(monkeypatch)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_disc_clip(tmp_path_factory.mktemp("clip") / "disc.mp4")


def click(frame: int, label: int = 1) -> FramePrompt:
    return FramePrompt(np.array([centre(frame)], np.float32), np.array([label]))


def as_bytes(session: Session) -> dict[str, Any]:
    """All of a session that stays: tensors and all."""
    known: dict[str, Any] = {"rest": (session.run, list(session.plan))}
    for i, track in session.objects.items():
        for name in ("prompts", "prompted", "tracked", "directions", "memories"):
            by_frame = getattr(track, name)
            known |= {f"{i}, {name}, {frame}": pack(value) for frame, value in by_frame.items()}
    return known


def test_elsewhere_all_is_plain(toy: SAM2) -> None:
    assert predictor_kinds(toy) == (ImagePredictor, VideoPredictor)
    assert type(automatic_masks(ImagePredictor(toy))) is AutomaticMasks
    assert trainer_of(toy) is train
    assert not is_zero_gpu()


def test_predictors_of_a_space(toy: SAM2, spaces: FakeSpaces, photo: np.ndarray) -> None:
    assert predictor_kinds(toy) == (ZeroImagePredictor, ZeroVideoPredictor)
    assert spaces.decorated, "ZeroGPU must know of the work before the app is launched"
    assert load_for_app("nano", "cuda").model.device.type == "cpu"
    with pytest.raises(ValueError, match="the precision is the lent GPU's own, got --dtype float32; leave it out"):
        load_for_app("nano", "cuda", "float32")
    plain, zero = ImagePredictor(toy), ZeroImagePredictor(toy)
    expected, embedding = plain.encode(photo), zero.encode(photo)
    assert torch.equal(embedding.image, expected.image)
    assert torch.equal(embedding.features.stride4, expected.features.stride4)
    prompt = Prompt([[20, 20]])
    assert torch.equal(zero.predict(embedding, prompt).raw, plain.predict(expected, prompt).raw)
    assert len(spaces.durations) == 1 and 0 < spaces.durations[0] <= 60, "clicks need no GPU"


def test_a_picture_is_encoded_once_and_clicks_need_no_gpu(toy: SAM2, spaces: FakeSpaces, photo: np.ndarray) -> None:
    plain, zero = VideoPredictor(toy), ZeroVideoPredictor(toy)
    expected, session = plain.open(photo), zero.open(photo)
    for predictor, work in ((plain, expected), (zero, session)):
        predictor.encode(work, 0)
        predictor.set_prompts(work, 0, 1, [[20, 20]])
        predictor.preview(work, 0, 1, [[20, 20], [5, 5]])
        predictor.set_prompts(work, 0, 1, [[20, 20], [5, 5]], [1, 0])
    assert as_bytes(session) == as_bytes(expected)
    assert len(spaces.durations) == 1


def test_finer_edges_are_one_trip(toy: SAM2, spaces: FakeSpaces) -> None:
    y, x = np.mgrid[:100, :150]
    masks = [mask_to_runs((x - 70) ** 2 + (y - 50) ** 2 < radius**2) for radius in (30, 35)]
    picture, seen = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8), list[tuple[int, int]]()
    expected = run_steps(refining_steps(ImagePredictor(toy), picture, masks))
    steps = edge_steps(ZeroImagePredictor(toy), picture, masks)
    assert run_steps(steps, lambda *done: seen.append(done)) == expected
    assert len(seen) == seen[-1][1] > 2
    assert len(spaces.durations) == 1
    assert run_steps(edge_steps(ImagePredictor(toy), picture, masks)) == expected
    assert len(spaces.durations) == 1, "the plain predictor makes none"


def test_everything_is_one_trip(toy: SAM2, spaces: FakeSpaces, photo: np.ndarray) -> None:
    options = AutomaticOptions(
        points_per_side=4, points_per_batch=4, min_predicted_iou=0, min_stability=0, crop_layers=1
    )
    seen: list[tuple[int, int]] = []
    expected = AutomaticMasks(toy, options).generate(photo)
    found = automatic_masks(ZeroImagePredictor(toy), options).generate(photo, progress=lambda *done: seen.append(done))
    assert expected
    assert found == expected
    assert seen[-1] == (20, 20)
    assert len(spaces.durations) == 1

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        automatic_masks(ZeroImagePredictor(toy), options).generate(photo, progress=stop)
    assert (spaces.stopped, spaces.running) == (1, 0)


@pytest.mark.parametrize("condition", [True, False])
def test_tracking_is_the_same(
    toy: SAM2, spaces: FakeSpaces, clip: Path, condition: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two objects, both ways, a correction, and on from there, in chunks of three frames; compared at each step."""
    monkeypatch.setattr(zero_gpu, "_MOST_FRAMES", 3)

    def work(predictor: VideoPredictor) -> Iterator[dict[str, Any]]:
        session = predictor.open(clip)
        predictor.add_prompt(session, 5, "disc", click(5))
        predictor.add_box(session, 8, 2, [100, 60, 160, 120])
        yield as_bytes(session)
        for frame in predictor.propagate(session):
            yield as_bytes(session) | {"frame": (frame.frame_index, pack(session.masks(frame.frame_index).low_res))}
        predictor.add_prompt(session, 10, "disc", click(10, 0))
        predictor.add_mask(session, 12, 2, np.eye(192, 256, dtype=bool))
        yield as_bytes(session)
        for frame in predictor.propagate(session, start=9, direction="backward", frames=4):
            yield as_bytes(session) | {"frame": (frame.frame_index, pack(session.masks(frame.frame_index).low_res))}

    options = VideoOptions(corrected_frames_condition=condition)
    for expected, got in zip(work(VideoPredictor(toy, options)), work(ZeroVideoPredictor(toy, options)), strict=True):
        assert got == expected
    assert len(spaces.durations) > 10
    assert all(0 < seconds <= 60 for seconds in spaces.durations)


def test_a_chunk_ends_with_its_time(toy: SAM2, spaces: FakeSpaces, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = ZeroVideoPredictor(toy)
    session = predictor.open(clip)
    predictor.add_prompt(session, 0, 1, click(0))
    monkeypatch.setattr(zero_gpu.time, "monotonic", iter(range(0, 10**6, 30)).__next__)
    assert [f.frame_index for f in predictor.propagate(session, direction="forward")] == list(range(16))
    assert len(spaces.durations) == 1 + 16, "half a minute for a frame: each chunk takes one"


def test_a_session_may_change_between_frames(toy: SAM2, spaces: FakeSpaces, clip: Path) -> None:
    """Corrections, objects that go, and a stop: the rest is as without ZeroGPU."""

    def work(predictor: VideoPredictor) -> Iterator[Any]:
        session = predictor.open(clip)
        predictor.add_prompt(session, 0, 1, click(0))
        predictor.add_box(session, 0, 2, [10, 10, 60, 60])
        for frame in predictor.propagate(session, direction="forward"):
            if frame.frame_index == 3:
                predictor.add_prompt(session, 3, 1, click(3))
            if frame.frame_index == 5:
                session.remove_object(2)
            if frame.frame_index == 8:
                break
        yield as_bytes(session)
        for _ in predictor.resume(session):
            pass
        yield as_bytes(session)

    assert list(work(ZeroVideoPredictor(toy))) == list(work(VideoPredictor(toy)))
    assert spaces.running == 0, "a stop frees the GPU"
    assert spaces.stopped


def test_errors_come_back_as_themselves(toy: SAM2, spaces: FakeSpaces, clip: Path) -> None:
    predictor = ZeroVideoPredictor(toy)
    session = predictor.open(clip)
    with pytest.raises(ValueError, match=r"point \(999, 5\) lies outside the 256x192"):
        predictor.add_points(session, 0, 1, [[999, 5]])
    with pytest.raises(IndexError, match="frame 99"):
        predictor.add_points(session, 99, 1, [[9, 5]])
    assert not session.objects
    with pytest.raises(RuntimeError, match="Odd: it broke"):
        GpuWork.of(toy).call(5, raise_odd)
    assert spaces.running == 0
    spaces.refusal = "You have exceeded your free ZeroGPU quota (15s requested vs. 3s left). Try again in 2:13:56."
    with pytest.raises(ValueError, match=r"^You have exceeded"):  # what `spaces` says reaches people as it is
        ZeroImagePredictor(toy).encode(np.zeros((40, 60, 3), np.uint8))


def raise_odd(model: SAM2) -> Iterator[None]:
    class Odd(Exception):
        """No other process knows it."""

    raise Odd("it broke")
    yield


def test_speed_is_measured_where_the_gpu_is(toy: SAM2, spaces: FakeSpaces, clip: Path) -> None:
    predictor = ZeroVideoPredictor(toy)
    session = predictor.open(clip)
    predictor.add_prompt(session, 5, 1, click(5))
    before = as_bytes(session)
    assert 0 < seconds_per_frame(predictor, session) < 10
    assert len(spaces.durations) == 2
    assert as_bytes(session) == before


def test_clips_go_to_another_process(clip: Path) -> None:
    """By path, without a second scan; a cut goes with its source."""
    with open_clip(clip) as source:
        cut = source.cut(3, 13, 2)
        for original in (source, cut):
            again = pickle.loads(pickle.dumps(original))
            assert (again.timestamps, again.notes, again.has_audio) == (original.timestamps, original.notes, True)
            for frame in (4, 1):
                assert np.array_equal(again.frame(frame), original.frame(frame))
        assert len(pickle.dumps(source)) < 20_000, "frames stay behind"


def test_what_is_packed(spaces: FakeSpaces) -> None:
    tensors = [torch.arange(6.0).view(2, 3).T, torch.tensor(3), torch.zeros(0, 4), torch.ones(2, dtype=torch.bfloat16)]
    tensors += [torch.tensor([True, False]), torch.zeros(1000)[:2]]
    packed = pack({"all": tensors})
    for before, after in zip(tensors, unpack(packed)["all"], strict=True):
        assert (after.dtype, after.shape) == (before.dtype, before.shape)
        assert torch.equal(after, before)
    assert len(packed) < 2000, "a slice goes without the rest"


def test_in_a_forked_process(nano: SAM2, clip: Path) -> None:
    """What the GPU's process does, in a real fork: it waits for no thread that is gone and no lock that was held."""
    plain, zero = VideoPredictor(nano), ZeroVideoPredictor(nano, lock=Lock())
    expected = followed(plain, clip)
    garbage = [open_clip(clip)]  # a decoder with threads, that only the garbage collector finds
    garbage[0].frame(5)
    garbage[0].itself = garbage
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=lambda: there.send(followed(zero, clip)), daemon=True)
    del garbage
    with zero.lock:
        process.start()
        assert here.poll(60), "the forked process hangs"
    got = here.recv()
    process.join(10)
    assert len(got) == len(expected) == 3
    # one thread adds up in another order than several
    assert all(np.mean(a != b) < 1e-3 for a, b in zip(got, expected, strict=True))


def followed(predictor: VideoPredictor, clip: Path) -> list[np.ndarray]:
    """Masks of three frames, and what a process collects in between."""
    with open_clip(clip) as source:
        session = predictor.open(source)
        predictor.add_points(session, 0, 1, [centre(0)])
        masks = [frame.masks for frame in predictor.propagate(session, frames=2)]
        gc.collect()
        return masks


@pytest.mark.slow
def test_training_is_lent_a_gpu_for_as_long_as_it_lasts(nano: SAM2, spaces: FakeSpaces, tmp_path: Path) -> None:
    write_coins(tmp_path / "coins")
    plan = FinetunePlan("nano", tmp_path / "coins", tmp_path / "mine-1", minutes=0.2, device="cpu", side=128)
    told: list[Any] = []
    trainer_of(nano)(plan, told.append)
    assert told[-1].phase == "done"
    assert spaces.durations[-1] == 55, "also for the comparison"
    assert (tmp_path / "mine-1" / "finetuned.safetensors").exists(), "files are shared between the processes"
    spaces.refusal = "You have exceeded your GPU quota"
    run = FinetuneRun("mine-2", replace(plan, out=tmp_path / "mine-2"), trainer_of(nano)).start()
    assert run.finished.wait(30)
    assert "quota" in run.status()
    assert run.folder is None
