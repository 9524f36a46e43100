"""`sam2kit video --batch`: many clips, some of them broken, by one process or several, in one go or in two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2kit.cli import main
from sam2kit.cli.video_batch import read_batch
from sam2kit.media.video_writer import VideoWriter
from sam2kit.predict.video import VideoPredictor
from sam2kit.processes import Team

PROMPTS = [{"frame": 0, "object": "disc", "points": [[30, 48]]}]


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """A list of three clips, the second of which does not exist."""
    y, x = np.mgrid[0:96, 0:128]
    for name in ("a", "c"):
        with VideoWriter(tmp_path / f"{name}.mp4", (96, 128)) as writer:
            for t in range(5):
                frame = np.full((96, 128, 3), 90, np.uint8)
                frame[(x - 30 - 5 * t) ** 2 + (y - 48) ** 2 < 18**2] = (230, 40, 30)
                writer.write(frame, Fraction(t, 12))
    (tmp_path / "c.json").write_text(json.dumps(PROMPTS))
    entries = [
        {"clip": "a.mp4", "prompts": PROMPTS},
        {"clip": "missing.mp4", "prompts": PROMPTS},
        {"clip": "c.mp4", "prompts": "c.json", "name": "last"},
    ]
    (tmp_path / "list.json").write_text(json.dumps(entries))
    return tmp_path / "list.json"


def run(batch: Path, *more: str) -> int:
    options = ["--model", "nano", "--device", "cpu", "--export", "coco", "--json"]
    return main(["video", "--batch", str(batch), "--out", str(batch.parent / "out"), *options, *more])


@pytest.mark.slow
def test_a_clip_that_fails_does_not_stop_the_rest(batch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = batch.parent / "out"
    assert run(batch) == 1
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1]) == {"clips": 3, "done": 2, "failed": ["missing"]}
    assert "missing failed" in said.err and "missing.mp4" in said.err
    assert (out / "a" / "a_coco.json").exists() and (out / "last" / "c_coco.json").exists()

    made = (out / "a" / "a_coco.json").stat().st_mtime_ns
    (batch.parent / "a.mp4").rename(batch.parent / "missing.mp4")
    assert run(batch) == 0, "what failed is tried again; what is done does not even need its clip"
    assert (out / "a" / "a_coco.json").stat().st_mtime_ns == made


def test_what_was_begun_goes_on(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked: list[int] = []
    one_step = VideoPredictor.track_frame

    def interrupted(self: VideoPredictor, session: object, step: object) -> None:
        if len(tracked) == 2:
            raise KeyboardInterrupt
        tracked.append(step.frame)
        one_step(self, session, step)

    def uninterrupted(self: VideoPredictor, session: object, step: object) -> None:
        tracked.append(step.frame)
        one_step(self, session, step)

    monkeypatch.setattr(VideoPredictor, "track_frame", interrupted)
    assert run(batch) == 130
    monkeypatch.setattr(VideoPredictor, "track_frame", uninterrupted)
    assert run(batch) == 1
    assert tracked[:5] == [0, 1, 2, 3, 4], "of the first clip, no frame twice"


def test_processes_share_the_clips(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam2kit.cli.video_batch.join_team", lambda device: Team(rank=2, size=3))
    assert run(batch) == 1
    assert [path.name for path in (batch.parent / "out").iterdir()] == ["last"]


@pytest.mark.slow
def test_real_processes(batch: Path) -> None:
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "sam2kit"]
    options = ["--batch", batch, "--out", batch.parent / "out", "--model", "nano", "--device", "cpu", "--json"]
    command = [sys.executable, *launch, "video", *options, "--export", "coco"]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert '{"clips": 3, "done": 2, "failed": ["missing"]}' in done.stdout, done.stderr


def test_a_device_without_memory_fails_one_clip(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_step, seen = VideoPredictor.track_frame, []

    def short(self: VideoPredictor, session: object, step: object) -> None:
        seen.append(step.frame)
        if len(seen) == 3:
            raise torch.OutOfMemoryError("out of memory")
        one_step(self, session, step)

    monkeypatch.setattr(VideoPredictor, "track_frame", short)
    assert run(batch) == 1
    assert not (batch.parent / "out" / "a" / "a_coco.json").exists()
    assert (batch.parent / "out" / "last" / "c_coco.json").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a list"),
        ('[{"prompts": []}]', 'entry 0 of .* needs "clip"'),
        ('[{"clip": "a.mp4", "prompt": []}]', 'entry 0 of .* the unknown key "prompt"; did you mean "prompts"'),
        ('[{"clip": "a.mp4", "prompts": []}]', "has no prompt"),
        ('[{"clip": "a.mp4", "prompts": [{"frame": 0}]}]', "entry 0 of the prompts of entry 0 of .* neither a point"),
        ('[{"clip": "a.mp4", "prompts": "c.json", "name": "../x"}]', "no name of a folder"),
        ('[{"clip": "a.mp4", "prompts": "c.json"}, {"clip": "b/a.mov", "prompts": "c.json"}]', "two clips called 'a'"),
    ],
)
def test_a_wrong_list_is_refused(batch: Path, content: str, says: str) -> None:
    batch.write_text(content)
    with pytest.raises(ValueError, match=says):
        read_batch(batch, batch.parent, {})


def test_results_are_not_mixed_and_one_clip_or_a_list_is_wanted(
    batch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(batch)
    capsys.readouterr()
    (batch.parent / "other" / "a").mkdir(parents=True)
    (batch.parent / "other" / "a" / "session.sam2kit").write_bytes(b"")
    elsewhere = ["--out", str(batch.parent / "other")]
    for arguments, message in (
        (["--effect", "spotlight"], "other options; choose another --out"),
        (elsewhere, "holds a session that is not of a batch"),
        (["--prompt", "frame=0,point=1,1"], "the list says what to follow"),
        (["--batch", "", "a.mp4"], "give a clip, or --batch"),
    ):
        assert run(batch, *arguments) == 2
        assert message in capsys.readouterr().err
