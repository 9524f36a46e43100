"""Watching a fine-tuning step by step, stopping it between steps, and running it in a thread."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2kit.datasets.in_memory import PictureInMemory
from sam2kit.model.sam2 import SAM2
from sam2kit.training import finetune as module
from sam2kit.training.budget import Budget
from sam2kit.training.finetune import finetune
from sam2kit.training.held_out import held_out_pictures
from sam2kit.training.report import result_so_far
from sam2kit.training.witness import EXAM, EXAM_BEFORE, TRAINING
from sam2kit.weights import load_model, save_model

BUDGET = Budget(epochs=3, rate=1e-3, corrections=1, general=False)


@pytest.fixture
def base(tmp_path: Path, toy: SAM2) -> Path:
    return save_model(toy, tmp_path / "base.safetensors")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures with a bright square each, two of them in val."""
    for number in range(6):
        rng = np.random.default_rng(number)
        image, mask = rng.integers(0, 60, (48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
        y, x = rng.integers(0, 28, 2)
        mask[y : y + 18, x : x + 18] = 1
        image[mask > 0] += 150
        for part, array in (("images", image), ("masks", mask)):
            path = tmp_path / "data" / ("val" if number > 3 else "train") / part / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_STEPS", 4)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder, "cpu").state_dict()


class Watcher:
    """Keeps all events, and stops at the first of which a question is true."""

    def __init__(self, stops_at: Callable[[dict], bool] = lambda _: False) -> None:
        self.events: list[dict] = []
        self.stops_at = stops_at

    def stop(self) -> bool:
        return self.stops_at(self.events[-1])

    def finetune(self, base: Path, data: Path, out: Path, budget: Budget = BUDGET) -> object:
        return finetune(base, data, "decoder", out=out, budget=budget, each_step=self.events.append, stop=self.stop)


def test_everything_that_happens_is_told(base: Path, pictures: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    result = watcher.finetune(base, pictures, tmp_path / "out")
    events = watcher.events
    phases = [event["phase"] for event in events]
    assert phases == [EXAM_BEFORE] * 3 + ([TRAINING] * 5 + [EXAM] * 3) * 3
    assert [e["step"] for e in events if "loss" in e] == list(range(1, 13))
    assert all(math.isfinite(e["loss"]) for e in events if "loss" in e)
    assert [(e["done"], e["of"]) for e in events if "done" in e] == [(0, 2), (1, 2)] * 4
    exams = [e["exam"] for e in events if "exam" in e]
    assert exams[0] == result.before
    assert len(exams) == 4
    assert max(exam["score"] for exam in exams[1:]) == result.after["score"]
    for name in ("progress", "seconds"):
        values = [event[name] for event in events]
        assert values == sorted(values)
    assert events[0]["progress"] == 0
    assert events[-1]["progress"] == 1


@pytest.mark.parametrize(
    "stops_at",
    [
        lambda event: event["step"] == 6,
        lambda event: event["phase"] == EXAM and event["step"] == 8 and event.get("done") == 1,
        lambda event: event["phase"] == EXAM_BEFORE,
    ],
    ids=["in an epoch", "in an exam", "in the first exam"],
)
def test_stopped_between_steps(base: Path, pictures: Path, tmp_path: Path, stops_at: Callable[[dict], bool]) -> None:
    """The best so far is kept, and the same call goes on as if nothing had happened."""
    Watcher().finetune(base, pictures, tmp_path / "whole")
    watcher = Watcher(stops_at)
    with pytest.raises(KeyboardInterrupt):
        watcher.finetune(base, pictures, tmp_path / "parts")
    begun = watcher.events[-1]["step"] > 0
    assert stops_at(watcher.events[-1]), "it stopped at once"
    left = result_so_far(tmp_path / "parts")
    assert (left is not None) == begun
    if begun:
        assert left.after == pytest.approx(
            next(e["exam"] for e in watcher.events if e["phase"] == EXAM and "exam" in e)
        )
        assert load_model(left.folder, "cpu") is not None
        assert (left.recipe, left.best_epoch, left.epochs) == ("decoder", 1, 1)
        assert "| click1 |" in left.text()
    Watcher().finetune(base, pictures, tmp_path / "parts")
    whole, parts = (json.loads((tmp_path / name / "history.json").read_text()) for name in ("whole", "parts"))
    assert [exam["score"] for exam in whole["exams"]] == [exam["score"] for exam in parts["exams"]]
    a, b = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_in_a_thread(base: Path, pictures: Path, tmp_path: Path) -> None:
    """The same as on the main thread, twice in one process."""
    Watcher().finetune(base, pictures, tmp_path / "here")
    for name in ("there", "again"):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(Watcher().finetune, base, pictures, tmp_path / name).result()
        a, b = weights_of(tmp_path / "here"), weights_of(tmp_path / name)
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_general_knowledge_is_asked_on_wish_and_makes_no_other_run(
    base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, picture = [], next(held_out_pictures(1, side=64, per_picture=1))
    monkeypatch.setattr(
        module, "general_samples", lambda clips: asked.append(clips) or [PictureInMemory("scene 0", picture)]
    )
    result = finetune(base, pictures, "decoder", out=tmp_path / "out", budget=BUDGET)
    assert not asked
    assert "scenes click1" not in result.before | result.after
    again = finetune(base, pictures, "decoder", out=tmp_path / "out", budget=Budget(epochs=3, rate=1e-3, corrections=1))
    assert len(asked) == 1, "the folder's run is taken up, with what it knew before"
    assert 0 <= again.after.pop("scenes click1") <= 1
    assert again.after == result.after


def test_a_budget_that_the_first_exam_uses_up(base: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"exam of the base model took .* give more minutes"):
        finetune(base, pictures, "decoder", out=tmp_path / "out", budget=Budget(minutes=1e-5, general=False))


def test_minutes_that_end_within_an_epoch(
    base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was learnt since the last exam is examined, also if the run was stopped in that exam."""
    monkeypatch.setattr(module, "_LEAST_STEPS", 10_000)
    budget = Budget(minutes=0.1, corrections=1, general=False)
    with pytest.raises(KeyboardInterrupt):
        Watcher(lambda event: event["phase"] == EXAM).finetune(base, pictures, tmp_path / "out", budget)
    assert result_so_far(tmp_path / "out") is None
    result = Watcher().finetune(base, pictures, tmp_path / "out", budget)
    assert result.epochs == 1
