"""`sam2kit video` and `sam2kit bench memory`."""

from __future__ import annotations

import json
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2kit.cli import main
from sam2kit.cli.video import parse_prompt, read_prompts
from sam2kit.media.clips import open_clip
from sam2kit.media.video_writing import VideoWriter
from sam2kit.predict.video import VideoPredictor


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Twelve frames of a red disc that goes right over a striped ground, at an uneven rate."""
    y, x = np.mgrid[0:96, 0:128]
    path = tmp_path / "disc.mp4"
    with VideoWriter(path, (96, 128)) as writer:
        for t in range(12):
            frame = np.stack([90 + 30 * np.sin(x / 6), 100 + 0 * x, 110 + 20 * np.sin(y / 9)], axis=2)
            frame[(x - 30 - 5 * t) ** 2 + (y - 48) ** 2 < 18**2] = (230, 40, 30)
            writer.write(frame.astype(np.uint8), Fraction(t, 12) + Fraction(t * t, 1000))
    return path


def track(clip: Path, out: Path, *more: str) -> int:
    return main(["video", str(clip), "--out", str(out), "--model", "nano", *more])


def test_from_clip_to_files(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    kinds = ["video", "masks", "coco", "yolo", "sav", "alpha", "gif", "compare"]
    exports = [word for kind in kinds for word in ("--export", kind)]
    assert track(clip, out, "--prompt", "frame=2,object=disc,point=40,48", "--json", *exports) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 12
    assert report["objects"] == ["disc"]
    assert len(report["files"]) == len(kinds)
    assert all(Path(f).stat().st_size > 0 for f in report["files"])
    with open_clip(out / "disc_overlay.mp4") as made, open_clip(clip) as source:
        assert len(made) == 12
        differences = [float(a - b) for a, b in zip(made.timestamps, source.timestamps, strict=True)]
        assert max(differences) - min(differences) < 1e-3
    names = zipfile.ZipFile(out / "disc_masks.zip").namelist()
    assert sum(n.endswith(".png") for n in names) == 12


def test_cut_and_prompts_from_a_file(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    Image.fromarray((np.indices((96, 128)).sum(0) < 80).astype(np.uint8) * 255).save(tmp_path / "corner.png")
    entries = [
        {"frame": 4, "object": 1, "points": [[50, 48], [100, 10]], "labels": [1, 0]},
        {"frame": 6, "object": "corner", "mask": "corner.png"},
        {"frame": 6, "object": 3, "box": [40, 30, 78, 66]},
    ]
    (tmp_path / "prompts.json").write_text(json.dumps(entries))
    code = track(
        clip, tmp_path / "out", "--prompts", str(tmp_path / "prompts.json"), "--start", "2", "--stop", "10",
        "--every", "2", "--effect", "spotlight", "--export", "video", "--json",
    )  # fmt: skip
    assert code == 0
    report = json.loads(capsys.readouterr().out)
    assert report["frames"] == 4
    assert report["objects"] == [1, "corner", 3]


def test_a_broken_run_keeps_what_it_has(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    prompt = ("--prompt", "frame=0,object=1,point=30,48", "--export", "masks")
    assert track(clip, whole, *prompt) == 0
    done = 0
    one_step = VideoPredictor.track_frame

    def stop_at_five(self: VideoPredictor, *arguments: object) -> None:
        nonlocal done
        done += 1
        if done == 6:
            raise KeyboardInterrupt
        one_step(self, *arguments)

    monkeypatch.setattr(VideoPredictor, "track_frame", stop_at_five)
    assert track(clip, broken, *prompt) == 130
    assert [p.name for p in broken.iterdir()] == ["session.sam2kit"]
    monkeypatch.undo()
    assert track(clip, broken, "--resume", "--export", "masks") == 0
    monkeypatch.setattr(VideoPredictor, "track_frame", None)  # all is done: nothing is tracked again
    assert track(clip, broken, "--resume", "--export", "coco", "--export", "masks") == 0
    ours, theirs = (zipfile.ZipFile(f / "disc_masks.zip") for f in (whole, broken))
    assert ours.namelist() == theirs.namelist()
    assert all(ours.read(n) == theirs.read(n) for n in ours.namelist())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to follow"),
        (["--resume"], "no session to resume"),
        (["--prompt", "here"], "should look like frame=0,object=1,point=120,80"),
        (["--prompt", "frame=0,object=1"], "neither a point nor a box nor a mask"),
        (["--prompt", "frame=0,point=1;2"], "is not x,y"),
        (["--prompt", "frame=99,point=1,2"], "not among the frames in use"),
        (["--prompt", "frame=x,point=1,2"], "cannot be read as a prompt"),
        (["--prompt", "frame=0,point=500,2"], "lies outside the 128x96"),
        (["--prompt", "frame=0,point=5,2", "--fast"], "are for CUDA GPUs, and this runs on cpu; leave them out"),
    ],
)
def test_mistakes(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    assert track(clip, tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_prompts_as_text() -> None:
    frame, name, prompt = parse_prompt("frame=3,object=cat,box=1,2,30,40,point=5,6,0")
    assert (frame, name) == (3, "cat")
    assert prompt.box_xyxy.tolist() == [1, 2, 30, 40]
    assert prompt.labels.tolist() == [0]
    assert parse_prompt("point=5,6")[:2] == (0, 1)


def test_prompt_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    for text, message in (("{", "not JSON"), ("{}", "must hold a list"), ('[{"points": [[1]]}]', "entry 0")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_prompts(path)


def test_bench_memory(capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "memory", "--short", "4", "--long", "8", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 50 < report["peak MB, 4 frames"] < 4000
    assert abs(report["difference MB"]) < 300


def test_bench_says_what_failed(capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "memory", "--model", "no-such-model", "--short", "2", "--long", "2"]) == 2
    assert "tracking 2 frames failed" in capsys.readouterr().err
