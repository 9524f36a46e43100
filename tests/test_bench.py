"""`sam2kit bench`: who is measured, how times become ratios, and what is written. No time is judged here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from sam2kit.bench import compare as comparing
from sam2kit.bench.compare import Measured, as_json, compare, markdown
from sam2kit.bench.contenders import (
    CONTENDERS,
    Sam2kit,
    Sam2kitCompiled,
    Sam2kitFast,
    Transformers,
    installed,
    moving,
    picture,
    work_of,
)
from sam2kit.bench.scaling import draw, measure_scaling
from sam2kit.cli import main


@pytest.fixture(scope="module")
def ourselves(tmp_path_factory: pytest.TempPathFactory) -> Sam2kit:
    folder = tmp_path_factory.mktemp("weights")
    comparing.write_weights(folder, "nano")
    return Sam2kit(folder, "cpu", "float32")


class FakeWorker:
    """Takes as long as it was told; the steps are noted."""

    def __init__(self, name: str, times: dict[str, list[float]], log: list[str]) -> None:
        self.name, self.times, self.log = name, times, log
        self.left: Iterator[float] = iter(())

    def ask(self, request: dict) -> dict:
        if "begin" in request:
            if request["begin"] not in self.times:
                raise ValueError(f"{self.name} does not do that")
            self.left = iter(self.times[request["begin"]])
            return {}
        if "peak" in request:
            return {"bytes": 3 * 2**20}
        self.log.append(self.name)
        return {"seconds": next(self.left)}


def test_contenders_take_turns_and_neighbours_are_compared() -> None:
    log: list[str] = []
    times = {"sam2kit": [9, 1, 2, 4], "other": [9, 3, 4, 12]}  # warming up does not count
    workers = {name: FakeWorker(name, {"encode": of}, log) for name, of in times.items()}
    ours, other = comparing._in_turns("encode", workers, 3)
    assert log == ["sam2kit", "other"] * 4
    assert (ours.seconds, ours.median, ours.peak, ours.times_ours) == ((1, 2, 4), 2, 3 * 2**20, None)
    assert (other.seconds, other.times_ours) == ((3, 4, 12), 3)


def test_who_cannot_do_the_work_is_left_out() -> None:
    log: list[str] = []
    workers = {"sam2kit": FakeWorker("sam2kit", {"automatic": [1, 1]}, log), "other": FakeWorker("other", {}, log)}
    ours, other = comparing._in_turns("automatic", workers, 1)
    assert ours.median == 1 and other.median is None and other.problem == "other does not do that"
    table = markdown([ours, other], {"threads": 2})
    assert table.splitlines()[-1] == "| automatic | 1.00 s | 3 MB | - |  |  |"


def test_who_fails_on_the_way_does_not_stop_the_rest() -> None:
    class Fails(FakeWorker):
        def ask(self, request: dict) -> dict:
            if "step" in request and len(self.log) > 2:
                raise ValueError("no memory left")
            return super().ask(request)

    log: list[str] = []
    workers = {
        name: kind(name, {"click": [1, 1, 1]}, log) for name, kind in (("sam2kit", FakeWorker), ("other", Fails))
    }
    ours, other = comparing._in_turns("click", workers, 2)
    assert ours.seconds == (1, 1) and (other.seconds, other.peak, other.problem) == ((), None, "no memory left")


def test_the_table_has_ratios() -> None:
    found = [
        Measured("click", "sam2kit", (0.02, 0.03, 0.04), 2**20),
        Measured("click", "other", (0.06,) * 3, 2**21, 2.0),
    ]
    assert "| click | 30.0 ms | 1 MB | 60.0 ms | 2 MB | 2.00 |" in markdown(found, {"torch": "2"})
    content = json.loads(json.dumps(as_json(found, {"torch": "2"})))
    assert content["torch"] == "2" and content["measured"][1]["times_ours"] == 2
    assert content["measured"][0]["median"] == 0.03


def test_real_processes_work_on_the_same_weights() -> None:
    found = compare(["click", "juggling"], model="nano", contenders=[], rounds=2)
    click, juggling = found
    assert len(click.seconds) == 2 and min(click.seconds) > 0 and click.peak > 100 * 2**20
    assert "kinds of work are encode, click" in juggling.problem


def test_a_contender_that_does_not_start_says_why() -> None:
    with pytest.raises(ValueError, match="nobody: KeyError"):
        compare(["click"], model="nano", contenders=["nobody"], rounds=1)


@pytest.mark.parametrize("kind", ["encode", "click", "clicks", "frame", "frame3"])
def test_every_kind_of_work_goes_on(ourselves: Sam2kit, kind: str) -> None:
    work = work_of(ourselves, kind, 4)
    for _ in range(3):
        next(work)


@pytest.mark.parametrize("contender", [Sam2kitFast, Sam2kitCompiled])
def test_the_fast_ways_work_on_a_cpu_too(
    contender: type[Sam2kit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", partial(compile_, backend="eager"))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: None)
    comparing.write_weights(tmp_path, "nano")
    racer = contender(tmp_path, "cpu", "bfloat16")
    assert racer.model.weight_dtype == torch.bfloat16
    for kind in ("click", "frame2"):
        work = work_of(racer, kind, 3)
        for _ in range(3):
            next(work)


def test_the_port_is_asked_as_many_clicks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(Transformers, "_embeddings", lambda self, image: [])
    monkeypatch.setattr(Transformers, "_answer", lambda self, embeddings, clicks: asked.append(len(clicks)))
    work = work_of(object.__new__(Transformers), "automatic", 1)
    next(work)
    next(work)
    assert asked == [64] * 16


def test_transformers_is_found_where_it_is_installed() -> None:
    assert installed() == ["sam2kit", "transformers"]
    assert installed("cuda:0") == list(CONTENDERS) and "sam2kit-compiled" in CONTENDERS


def test_pictures_are_the_same_everywhere() -> None:
    clip = moving(3)
    assert (clip.frame(0) == picture()).all() and clip.frame(2).shape == (720, 1280, 3)
    assert (clip.frame(2)[:, 16:] == picture()[:, :-16]).all()
    assert 20 < picture().std() < 90


def test_scaling_measures_and_draws(tmp_path: Path) -> None:
    found = measure_scaling("nano", "cpu", objects=(1, 2), frames=3, sides=(256,))
    assert list(found.objects) == [1, 2] and list(found.frame) == [1, 2, 3] and list(found.side) == [256]
    assert all(seconds > 0 for series in vars(found).values() for seconds in series.values())
    assert draw(found, tmp_path / "scaling.png", "nano").stat().st_size > 5000


def test_the_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--work", "click", "--rounds", "1", "--alone", "--model", "nano", "--device", "cpu"]
    assert main(["bench", "compare", *options, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "compare.md").read_text() == capsys.readouterr().out
    content = json.loads((tmp_path / "compare.json").read_text())
    assert content["model"] == "nano" and content["measured"][0]["work"] == "click"


def test_a_wrong_number_of_rounds_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "compare", "--rounds", "0"]) == 2
    assert "--rounds must be 1 or more, got 0" in capsys.readouterr().err
