"""Killed, full, read-only, out of memory: what was finished stays. `python -m pytest tests/trust -m faults`.

A process that does nothing but write one kind of result is killed at a random moment, again and again; after each kill
the result under its name must be a whole one. SAM2KIT_KILLS=100 kills more often.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import random
import re
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2kit.cli import main
from sam2kit.data.mask_exports import export_coco, export_davis
from sam2kit.files import write_json
from sam2kit.media.clips import open_clip
from sam2kit.media.video_exports import export_video
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import load_model, save_model
from tests.figures import FIGURES
from tests.loopback_hub import LoopbackHub
from tests.media.clip_factory import write_clip
from tests.toy_model import toy_model
from tests.trust.corpus_sessions import SIZE_HW
from tests.trust.corpus_weights import safetensors_bytes

pytestmark = pytest.mark.faults
KILLS = int(os.environ.get("SAM2KIT_KILLS", "6"))  # of each kind of result
FRAMES = np.random.default_rng(0).integers(0, 256, (4, *SIZE_HW, 3), np.uint8)
ALL = np.ones(SIZE_HW, bool)


@cache
def work() -> tuple[VideoPredictor, Session]:
    """A tracked clip."""
    predictor = VideoPredictor(toy_model())
    session = predictor.open(np.zeros((4, *SIZE_HW, 3), np.uint8))
    predictor.add_points(session, 0, "cup", [[9, 9]])
    for _ in predictor.propagate(session):
        pass
    return predictor, session


@cache
def photo() -> Session:
    """Work on a photo; the photo is large, so that writing it takes a while."""
    return work()[0].open(np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8))


def _exhaust(steps: Iterator) -> None:
    for _ in steps:
        pass


def _masks(index: int) -> dict:
    return {1: ALL}


def _check_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(FRAMES) + 1


def _check_video(path: Path) -> None:
    with open_clip(path) as clip:
        assert (len(clip), clip.notes) == (len(FRAMES), ())


def _check_json(path: Path) -> None:
    json.loads(path.read_text())


Write = Callable[[Path], object]
RESULTS: dict[str, tuple[Write, Write]] = {  # name -> how it is written, and a look that fails unless it is whole
    "session.sam2kit": (lambda path: work()[1].save(path), lambda path: Session.load(path, work()[1].clip)),
    "photo.session.safetensors": (lambda path: photo().save(path), Session.load),
    "weights.safetensors": (lambda path: save_model(toy_model(), path), lambda path: load_model(path, "cpu")),
    "video.mp4": (lambda path: _exhaust(export_video(open_clip(FRAMES), _masks, path, "overlay")), _check_video),
    "masks.zip": (lambda path: _exhaust(export_davis(open_clip(FRAMES), _masks, path)), _check_zip),
    "coco.json": (lambda path: _exhaust(export_coco(open_clip(FRAMES), _masks, path)), _check_json),
    "numbers.json": (lambda path: write_json({"numbers": list(range(200_000))}, path), _check_json),
}


def _for_ever(write: Write, path: Path) -> None:
    torch.set_num_threads(1)
    while True:
        write(path)


def killed_within(target: Callable, arguments: tuple, seconds: float) -> None:
    """Run something in a fork of this process, and kill it as a full machine would."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments, daemon=True)
    process.start()
    process.join(seconds)
    process.kill()
    process.join()


@pytest.mark.parametrize("name", RESULTS)
def test_killed_while_writing(name: str, tmp_path: Path) -> None:
    (write, check), path, rng, there = RESULTS[name], tmp_path / name, random.Random(1), 0
    began = time.perf_counter()
    write(path)  # so that what it needs is loaded before the forks
    took = time.perf_counter() - began
    path.unlink()
    for _ in range(KILLS):
        killed_within(_for_ever, (write, path), rng.uniform(0.02, 0.1 + 2 * min(took, 2)))
        if path.exists():
            check(path)
            there += 1
    write(path)  # the next run goes on, whatever the killed ones left
    check(path)
    left = [p.name for p in tmp_path.iterdir() if not p.name.startswith(".tmp")]  # safetensors' own, of weights
    assert left == [path.name], "half-written files are gone, too"
    FIGURES.append(f"faults: {name}: killed {KILLS} times while it was written; whole {there} times, never half")


def _write_folders(parent: Path) -> None:
    """One folder after the other: they are new, since emptying one takes a while itself."""
    for number in itertools.count():
        _exhaust(export_davis(open_clip(FRAMES), _masks, parent / f"masks-{number:05d}"))


@pytest.mark.quick
def test_a_folder_of_masks_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    rng, there = random.Random(2), 0
    for kill in range(KILLS):
        parent = tmp_path / str(kill)
        killed_within(_write_folders, (parent,), rng.uniform(0.02, 0.3))
        for folder in parent.glob("masks-?????"):  # the one that was being written ends in .part
            assert len(list(folder.iterdir())) == len(FRAMES) + 1
            there += 1
    assert there, "none was written at all"
    FIGURES.append(f"faults: folders of masks: killed {KILLS} times while they were written; {there} there, all whole")


def test_killed_while_downloading(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.repos["me/toy"] = {"model.safetensors": safetensors_bytes()}
    hub.trouble, rng = "slow", random.Random(3)
    for _ in range(KILLS):
        killed_within(load_model, ("me/toy", "cpu"), rng.uniform(0.1, 0.8))
    hub.trouble = ""
    assert isinstance(load_model("me/toy", "cpu"), SAM2)
    cached = list((tmp_path / "cache").rglob("model.safetensors"))
    assert [p.read_bytes() == hub.repos["me/toy"]["model.safetensors"] for p in cached] == [True]
    FIGURES.append(f"faults: killed {KILLS} times while downloading; the next download was whole")


def command_in(folder: Path, frames: int) -> list[str]:
    """The beginning of a command; its clip and its weights are made in the folder."""
    clip, weights = write_clip(folder / "clip.mp4", frames), folder / "toy.safetensors"
    weights.write_bytes(safetensors_bytes())
    return ["video", str(clip), "--model", str(weights)]


def test_killed_while_tracking_and_resumed(tmp_path: Path) -> None:
    """The shell's command, killed; `--resume`, or the same command again, ends with the same masks."""
    begin = command_in(tmp_path, 8)
    line = [*begin, "--prompt", "frame=0,object=1,point=40,30", "--export", "masks"]
    assert main([*line, "--out", str(tmp_path / "whole")]) == 0
    rng = random.Random(4)
    for _ in range(max(KILLS // 2, 2)):
        killed_within(_tracks, ([*line, "--out", str(tmp_path / "killed")],), rng.uniform(0.1, 1.0))
        session = tmp_path / "killed" / "session.sam2kit"
        if session.exists():
            assert main([*begin, "--resume", "--export", "masks", "--out", str(tmp_path / "killed")]) == 0
    assert main([*line, "--out", str(tmp_path / "killed")]) == 0
    ours, theirs = (zipfile.ZipFile(tmp_path / f / "clip_masks.zip") for f in ("whole", "killed"))
    assert {n: ours.read(n) for n in ours.namelist()} == {n: theirs.read(n) for n in theirs.namelist()}


def _tracks(line: list[str]) -> None:
    torch.set_num_threads(1)
    main(line)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB, for root on Linux."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can make a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


def _fill(filler: Path, write: Callable[[], object]) -> None:
    """Write while less and less room is left: some results are small."""
    for _ in range(40):
        write()
        with filler.open("ab") as file:
            file.write(bytes(4000))


@pytest.mark.parametrize("name", RESULTS)
def test_a_full_disk(name: str, small_disk: Path) -> None:
    (write, check), path, filler = RESULTS[name], small_disk / name, small_disk / "filler"
    filler.write_bytes(bytes(240_000))
    with pytest.raises(OSError, match=r"disk is full.*try again"):
        _fill(filler, lambda: write(path))
    assert not [p.name for p in small_disk.iterdir() if ".part" in p.name]
    if path.exists():
        check(path)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    write(path)
    check(path)
    FIGURES.append(f"faults: {name}: a full disk was told, and survived")


def test_a_disk_that_cannot_be_written(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for name, (write, _) in RESULTS.items():
        with pytest.raises(OSError, match=r"choose another (folder|place)|try again"):
            write(small_disk / name)


def test_a_command_on_a_full_disk(small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    line = [*command_in(tmp_path, 4), "--prompt", "frame=0,object=1,point=40,30"]
    (small_disk / "filler").write_bytes(bytes(255_000))
    assert main([*line, "--out", str(small_disk / "out")]) == 2
    assert re.search(r"sam2kit: the disk is full", capsys.readouterr().err)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", ["image_encoder", "memory_attention", "memory_encoder", "sam_mask_decoder"])
def test_out_of_memory_leaves_the_session_as_it_was(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever part of a frame's work finds the device full."""
    model = toy_model()
    predictor = VideoPredictor(model)
    clip = np.zeros((5, *SIZE_HW, 3), np.uint8)
    whole = predictor.open(clip)
    predictor.add_points(whole, 0, 1, [[9, 9]])
    wanted = {f.frame_index: f.masks for f in predictor.propagate(whole)}
    survived = 0
    module = getattr(model, kind)
    working = module.forward
    for fails_at in range(1, 6):
        session = predictor.open(clip)
        predictor.add_points(session, 0, 1, [[9, 9]])
        answers = itertools.count(1)

        def full(*arguments: object, answers: Iterator = answers, fails_at: int = fails_at, **named: object) -> object:
            if next(answers) == fails_at:
                raise torch.OutOfMemoryError("CUDA out of memory (simulated)")
            return working(*arguments, **named)

        shown = {}
        with monkeypatch.context() as patch, contextlib.suppress(torch.OutOfMemoryError):
            patch.setattr(module, "forward", full)
            survived += 1
            for frame in predictor.propagate(session):
                shown[frame.frame_index] = frame.masks
            survived -= 1
        for frame in predictor.resume(session):  # there is memory again
            shown[frame.frame_index] = frame.masks
        assert shown.keys() == wanted.keys()
        assert all(np.array_equal(shown[f], wanted[f]) for f in wanted)
    assert survived
    FIGURES.append(f"faults: out of memory in {kind}, {survived} times; the session went on to the same masks")


def test_out_of_memory_in_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "toy.safetensors").write_bytes(safetensors_bytes())
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(SAM2, "encode_image", full)
    model = ["--model", str(tmp_path / "toy.safetensors")]
    assert main(["image", str(tmp_path / "a.png"), *model, "--point", "5,5", "--out", str(tmp_path / "o")]) == 2
    assert "no memory left for this; take a smaller model or --side" in capsys.readouterr().err
