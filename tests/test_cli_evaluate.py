"""`sam2kit evaluate`: data, folders of masks, several processes, and what people get wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2kit.cli import main
from tests.evaluation.samples_in_memory import moving_square, write_labels
from tests.loopback_hub import free_port

ROOT = Path(__file__).parent.parent
FAST = ["--model", "nano", "--device", "cpu"]


def evaluate(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """A data set in the layout of DAVIS: two clips, a thing in each, a second one later in the first."""
    for name, late in (("one", 2), ("two", None)):
        clip = moving_square(5, name=name, late=late)
        for t, frame in enumerate(clip.frames):
            path = tmp_path / "davis" / "JPEGImages" / name / f"{t:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame).save(path.with_suffix(".jpg"), quality=95)
            labels = np.sum([i * m[t] for i, m in clip.masks.items()], axis=0)
            write_labels(tmp_path / "davis" / "Annotations" / name / path.name, labels)
    return tmp_path / "davis"


def test_clips(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    assert evaluate(davis, *FAST, "--prompt", "box", "--out", out, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["protocol"], report["prompt"], report["name"]) == ("vos", "box", "nano")
    found = [(Path(o["sample"]).name, o["object"]) for o in report["objects"]]
    assert found == [("one", "1"), ("one", "2"), ("two", "1")]
    assert report == json.loads((out / "results.json").read_text())
    assert evaluate(davis, *FAST, "--prompt", "box", "--out", out) == 0  # everything is there already
    table = capsys.readouterr().out
    assert f"| J&F (%) | {100 * report['measures']['J&F']['mean']:.1f} |" in table
    assert evaluate(davis, *FAST, "--prompt", "mask", "--out", out) == 2
    assert "results of another run (other prompt)" in capsys.readouterr().err


@pytest.mark.slow
def test_several_processes_equal_one(assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Started by accelerate's own launcher; on a machine without GPUs its --multi_gpu starts processes all the same."""
    arguments = ["evaluate", str(assets / "photos"), *FAST, "--limit", "3", "--clicks", "1", "--json"]
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    port = free_port()
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", str(port), "-m", "sam2kit", *arguments, "--out", str(tmp_path / "two")]
    done = subprocess.run(
        launch,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(p.name for p in (tmp_path / "two").glob("*.jsonl")) == ["rows-0.jsonl", "rows-1.jsonl"]
    one, two = (json.loads((tmp_path / n / "results.json").read_text()) for n in ("one", "two"))
    assert [o["sample"] for o in one["objects"]] == [o["sample"] for o in two["objects"]]
    for alone, shared in zip(one["objects"], two["objects"], strict=True):
        assert alone == pytest.approx(shared, abs=1e-6)


def test_folders_of_masks(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    truth = davis / "Annotations"
    assert evaluate("--masks", truth, "--truth", truth, "--json") == 0
    assert json.loads(capsys.readouterr().out)["measures"]["J&F"]["mean"] == 1
    assert evaluate("--masks", truth, "--truth", truth, "--no-skip", "--out", tmp_path / "out") == 0
    assert "| J&F (%) | 100.0 | 100.0 - 100.0 | 3 |" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["objects"]
    assert [r["frames"] for r in rows] == [5, 3, 5]
    assert evaluate("--masks", truth, "--truth", truth, "--davis", "--json") == 0
    assert [r["frames"] for r in json.loads(capsys.readouterr().out)["objects"]] == [3, 3, 3]


def test_youtube_vos(davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    things = {"1": {"category": "square"}, "2": {"category": "new square"}}
    (tmp_path / "meta.json").write_text(
        json.dumps({"videos": {"one": {"objects": things}, "two": {"objects": {"1": things["1"]}}}})
    )
    (tmp_path / "unseen.txt").write_text("new square\n")
    masks = tmp_path / "masks"
    for path in sorted((davis / "Annotations").rglob("*.png")):
        labels = np.array(Image.open(path))
        write_labels(masks / path.parent.name / path.name, np.where(labels == 2, 0, labels))
    arguments = ["--masks", masks, "--truth", davis / "Annotations", "--youtube", tmp_path / "meta.json", "--json"]
    assert evaluate(*arguments, "--unseen", tmp_path / "unseen.txt") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["G"], report["J_seen"], report["J_unseen"]) == (0.5, 1, 0)
    assert evaluate(*arguments) == 2
    assert "--unseen belong together" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--masks", "x"], "--masks and --truth belong together"),
        (["--masks", "x", "--truth", "y"], "there is no folder at x"),
        (["nowhere"], "there is nothing at nowhere"),
        ([str(ROOT / "assets" / "photos"), "--protocol", "online"], "needs clips"),
        ([str(ROOT / "assets" / "photos"), "--split", "val"], "nothing in split 'val'"),
        (["--out", "x"], "give one thing to score: a dataset, or --masks with --truth"),
        (["x", "--masks", "x", "--truth", "y"], "give one thing to score"),
        (["--masks", "x", "--truth", "y", "--davis", "--youtube", "m", "--unseen", "u"], "give one of them"),
    ],
)
def test_what_people_get_wrong(arguments: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert evaluate(*arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
