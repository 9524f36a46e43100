"""`python -m tests.bench`: who is measured, how times become ratios, and what is written. No time is judged here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.bench.__main__ import main
from tests.bench.compare import Conditions, Measured, Table, as_json, compare, in_turns, markdown, write_weights
from tests.bench.contenders import (
    CONTENDERS,
    Contender,
    Sam2kit,
    Sam2kitCompiled,
    Sam2kitFast,
    Transformers,
    TransformersHalf,
    installed,
    work_of,
)
from tests.bench.memory import compare_memory
from tests.bench.worker import Server, started

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    write_weights(folder, "nano", 64)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a size that the port can load, for a square that takes little time."""
    folder = tmp_path_factory.mktemp("small")
    write_weights(folder, "sam2.1-hiera-tiny", 64)
    return folder


class FakeWorker:
    """Takes as long as it was told; the runs are noted."""

    def __init__(self, name: str, times: dict[str, list[float]], log: list[tuple[str, int]]) -> None:
        self.name, self.times, self.log = name, times, log
        self.left: Iterator[float] = iter(())

    def begin(self, work: str, frames: int) -> None:
        if work not in self.times:
            raise ValueError(f"{self.name} does not do that")
        self.left, self.frames = iter(self.times[work]), frames

    def run(self, times: int) -> dict:
        self.log.append((self.name, times))
        seconds = next(self.left, None)
        if seconds is None:
            raise ValueError("no memory | left")
        return {"seconds": seconds, "encoded": times}

    def peak(self) -> int:
        return 3 * 2**20


def test_contenders_take_turns_and_neighbours_are_compared() -> None:
    log: list[tuple[str, int]] = []
    times = {"sam2kit": [9, 0.1, 1, 2, 4], "transformers": [9, 0.25, 3, 4, 12]}  # warming up does not count
    workers = {name: FakeWorker(name, {"encode": of}, log) for name, of in times.items()}
    table = Table()
    in_turns("encode", workers, Conditions(rounds=3), table)
    assert log == [("sam2kit", 1)] * 2 + [("transformers", 1)] * 2 + [("sam2kit", 5), ("transformers", 2)] * 3
    ours, theirs = table.found
    assert (ours.seconds, ours.median, ours.peak, ours.ratios, ours.steps) == ((1, 2, 4), 2, 3 * 2**20, (), 5)
    assert (theirs.seconds, theirs.ratios, theirs.steps) == ((3, 4, 12), (3, 2, 3), 2)


def test_frames_count_when_the_memory_is_full() -> None:
    log: list[tuple[str, int]] = []
    worker = FakeWorker("sam2kit", {"frame10": [9, 1, 1]}, log)
    in_turns("frame10", {"sam2kit": worker}, Conditions(device="cuda", rounds=2), Table())
    assert log == [("sam2kit", 18), ("sam2kit", 100), ("sam2kit", 100)]
    assert worker.frames >= 18 + 200 + 16  # so that encoding ahead goes on to the end


def test_who_fails_does_not_stop_the_rest() -> None:
    half, log = "transformers-half", []
    given = {"sam2kit": {"click": [1] * 5}, "transformers": {"click": [1] * 3}, half: {}}
    table = Table()
    in_turns("click", {n: FakeWorker(n, times, log) for n, times in given.items()}, Conditions(rounds=3), table)
    ours, theirs, lower = table.found
    assert ours.seconds == (1, 1, 1) and lower.problem == f"{half} does not do that"
    assert (theirs.seconds, theirs.peak, theirs.problem) == ((1,), None, "no memory | left")
    lines = markdown(table.found, {"threads": 2}).splitlines()
    assert f"| click | {half} | - |  |  |  |  | {half} does not do that |" in lines
    assert any(line.endswith("| 1 runs of 1; no memory / left |") for line in lines)


def test_the_table_has_ratios_and_spreads() -> None:
    found = [
        Measured("frame", "sam2kit", (0.02, 0.03, 0.04), 100, (100, 96, 104), peak=2**20),
        Measured("encode", "transformers", (6.0,) * 3, ratios=(2.0, 1.5, 4.0), peak=2**21),
    ]
    table = markdown(found, {"torch": "2"})
    assert "| frame | sam2kit | 30.00 ms | 20.00 to 40.00 |  |  | 1 MB | 3 runs of 100; 300 frames encoded |" in table
    assert "| encode | transformers | 6.00 s | 6.00 to 6.00 | 2.00 | 1.50 to 4.00 | 2 MB | 3 runs of 1 " in table
    content = json.loads(json.dumps(as_json(found, {"torch": "2"})))
    assert content["torch"] == "2" and content["measured"][1]["ratios"] == [2, 1.5, 4]
    assert content["measured"][0]["median"] == 0.03


def test_real_processes_work_on_the_same_weights_and_one_that_does_not_load_says_why() -> None:
    reports: list[int] = []
    found = compare(
        ["click", "frame"],
        Conditions("nano", side=64, rounds=2, deadline=100),
        contenders=["transformers"],  # it has no model of this shape
        report=lambda rows: reports.append(sum(len(m.seconds) for m in rows)),
    )
    of = {(m.work, m.contender): m for m in found}
    ours = of["click", "sam2kit"]
    assert len(ours.seconds) == 2 and min(ours.seconds) > 0 and ours.peak > 100 * 2**20
    assert of["frame", "sam2kit"].encoded == (1, 1)
    for work in ("click", "frame"):
        assert of[work, "transformers"].problem.startswith("it did not load: RuntimeError")
    assert sorted(reports) == reports and set(range(1, 5)) <= set(reports)


def test_who_does_not_answer_is_ended_and_begins_anew(weights: Path) -> None:
    with started("sam2kit", weights, "cpu", "float32", 60) as worker:
        worker.begin("click", 1)
        worker.deadline = 1.5
        worker.begin("click", 1)
        process = worker.process
        with pytest.raises(ValueError, match=r"no answer within 1\.5 s"):
            worker.run(10**6)
        assert not process.is_alive()
        worker.deadline = 60
        worker.begin("click", 1)
        assert worker.run(1)["seconds"] > 0
        worker.process.kill()
        with pytest.raises(ValueError, match="its process ended with code -9; was memory short"):
            worker.run(1)


def test_a_run_that_is_stopped_leaves_what_was_finished(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.bench", "compare", "--alone", "--model", "nano", "--side", "64"]
    command += ["--device", "cpu", "--work", "click", "--rounds", "100000", "--out", str(tmp_path / "out")]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=environment) as process:
        until = time.monotonic() + 90
        while not (tmp_path / "out" / "compare.json").exists():
            assert process.poll() is None and time.monotonic() < until, "the first run is written"
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert content["measured"][0]["seconds"] and "| click | sam2kit |" in (tmp_path / "out" / "compare.md").read_text()
    assert sorted(f.name for f in tmp_path.rglob("*") if f.is_file()) == ["compare.json", "compare.md"]


@pytest.mark.parametrize("kind", [Sam2kit, Transformers, TransformersHalf, Sam2kitFast, Sam2kitCompiled])
def test_all_kinds_of_work_are_done_alike(small: Path, kind: type[Contender], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    contender = kind(small, "cpu", "bfloat16")
    for work in ("encode", "click", "clicks", "frame2"):
        if work.rstrip("2") in kind.works:
            steps = work_of(contender, work, 4)
            for _ in range(3):
                next(steps)
        else:
            with pytest.raises(ValueError, match=f"does not do '{work}'; its kinds of work are frame"):
                work_of(contender, work, 4)


def test_the_encoders_pictures_are_counted_when_they_go_ahead(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server("sam2kit-fast", weights, "cpu", "float32")
    monkeypatch.setattr("tests.bench.contenders.SIZE_HW", (180, 320))
    server.load()
    server.begin("frame", 60)
    for _ in range(2):
        told = server.run(12)
        assert abs(told["encoded"] - 12) < 4 and told["seconds"] > 0
    assert server.peak() > 2**20


def test_who_takes_part() -> None:
    timm = ["transformers-edgetam"] if find_spec("timm") else []  # whose trunk it is
    assert installed() == ["sam2kit", "transformers", "sam2kit-efficienttam", "sam2kit-edgetam", *timm]
    assert {*installed("cuda:0", "bfloat16"), "transformers-edgetam"} == set(CONTENDERS)
    assert "transformers-half" not in installed("cuda:0")
    with pytest.raises(ValueError, match=r"contenders are sam2kit, .* got sam2kit, nobody"):
        compare(["click"], Conditions("nano"), contenders=["nobody"])


def test_memory_is_measured() -> None:
    assert compare_memory("nano", "cpu", side=64, short=2, long=4)["peak MB, 2 frames"] > 100
    with pytest.raises(ValueError, match="tracking 2 frames failed"):
        compare_memory("nano", "toaster", short=2, long=4)


def test_the_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--work", "click", "--rounds", "1", "--alone", "--model", "nano", "--device", "cpu"]
    assert main(["compare", *options, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "compare.md").read_text() == capsys.readouterr().out
    content = json.loads((tmp_path / "compare.json").read_text())
    assert content["model"] == "nano" and content["measured"][0]["work"] == "click"
    assert main(["compare", "--rounds", "0"]) == 2
    assert "--rounds must be 1 or more, got 0" in capsys.readouterr().err


def test_the_gpu_check_runs_its_smoke_part_on_a_cpu() -> None:
    environment = os.environ | {"SAM2KIT_CHECK_DEVICE": "cpu", "SAM2KIT_CHECK_MODEL": "nano"}
    command = [sys.executable, "-m", "tests.gpu_check", "smoke"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all went well\n")
    for line in ("nano: 10 objects over 30 frames", "nano: recorded against plain"):
        assert line in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_check_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "tests" / "gpu_check.sh"), str(tmp_path)]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not done.stdout and not list(tmp_path.iterdir())
    assert done.stderr.startswith("this machine has no CUDA GPU") and done.stderr.count("\n") == 1
