"""Runs: what they tell, how they end, what they leave; here, elsewhere, and several at once."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam2kit.app.finetune_run import (
    COMPARING,
    DONE,
    FAILED,
    LOADING,
    STOPPED,
    FinetunePlan,
    FinetuneRun,
    RunEnd,
    Tell,
    thinned,
    train,
)
from sam2kit.app.finetune_work import zip_finetuned
from sam2kit.model.sam2 import SAM2
from sam2kit.training import finetune
from sam2kit.training.callbacks import EVALUATION, EVALUATION_BEFORE, TRAINING, TrainingEvent
from sam2kit.weights import load_model, save_model
from tests.training.conftest import write_pictures

Told = TrainingEvent | RunEnd


@pytest.fixture
def plan(tmp_path: Path, toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> FinetunePlan:
    """A toy model, three photos with squares and one held out, and a few seconds."""
    monkeypatch.setattr(finetune, "_LEAST_STEPS", 4)
    base = save_model(toy, tmp_path / "base.safetensors")
    data = write_pictures(tmp_path / "data-1", ["train"] * 3 + ["val"], lambda number: 2)
    return FinetunePlan(str(base), data, tmp_path / "mine-1", "decoder", 0.2, "cpu")


def carried_out(plan: FinetunePlan, watch: Callable[[Told], object] = lambda told: None) -> list[Told]:
    """All that a run tells; `watch` sees it at once."""
    told: list[Told] = []
    train(plan, lambda one: (told.append(one), watch(one)))
    return told


def at_step(step: int, act: Callable[[], object]) -> Callable[[Told], object]:
    return lambda told: act() if isinstance(told, TrainingEvent) and told.step == step else None


@pytest.mark.slow
class TestTraining:
    def test_a_file_stops_it_and_the_best_is_kept(self, plan: FinetunePlan) -> None:
        told = carried_out(pickle.loads(pickle.dumps(replace(plan, minutes=10))), at_step(6, plan.stop_file.touch))
        assert pickle.loads(pickle.dumps(told)) == told, "it may come from another process"
        phases = list(dict.fromkeys(one.phase for one in told))
        assert phases == [LOADING, EVALUATION_BEFORE, TRAINING, EVALUATION, COMPARING, STOPPED], told[-1]
        assert told[-1].result.epochs == 1
        assert load_model(plan.out, "cpu") is not None
        assert (plan.out / "predictions.jpg").stat().st_size > 5000
        assert not (plan.out / "checkpoint.pt").exists()
        words = (plan.out / "result.md").read_text()
        assert "| click1 |" in words and str(plan.out.parent) not in words
        early = replace(plan, out=plan.out.with_name("mine-2"))
        early.stop_file.touch()
        assert carried_out(early)[-1] == RunEnd(STOPPED)

    @pytest.mark.filterwarnings("ignore:.*the sample is left out")
    def test_it_ends_with_its_data(self, plan: FinetunePlan) -> None:
        """The visitor's folder was deleted, and the stop file with it."""
        end = carried_out(replace(plan, minutes=10), at_step(2, lambda: shutil.rmtree(plan.data, ignore_errors=True)))
        assert end[-1].phase in (STOPPED, FAILED)

    def test_two_at_once_take_turns(self, plan: FinetunePlan) -> None:
        first = FinetuneRun("mine-1", replace(plan, minutes=10)).start()
        while "step" not in first.status():
            time.sleep(0.01)
        second = FinetuneRun("mine-2", replace(plan, out=plan.out.with_name("mine-2"))).start()
        time.sleep(1)
        assert second.status() == "Waiting until another training has ended …"
        first.stop()
        assert first.finished.wait(60) and second.finished.wait(120)
        assert (first.end.phase, second.end.phase) == (STOPPED, DONE)
        assert second.status().startswith("Done: 0.")

    def test_finetuned_again_and_taken_elsewhere(
        self, plan: FinetunePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A relative path as the base, a fine-tuned model as the base of another, and a zip that brings both."""
        monkeypatch.chdir(tmp_path)
        assert carried_out(replace(plan, base=os.path.relpath(plan.base)))[-1].phase == DONE
        again = replace(plan, base=str(plan.out), out=plan.out.with_name("mine-2"))
        assert carried_out(again)[-1].phase == DONE
        whole = load_model(again.out, "cpu").state_dict()
        archive = zipfile.ZipFile(zip_finetuned(again.out, tmp_path / "mine-2.zip"))
        files = {"finetuned.json", "finetuned.safetensors", "curves.png", "history.json", "result.md"}
        assert set(archive.namelist()) == {
            f"{run}/{file}" for run in ("mine-1", "mine-2") for file in files | {"predictions.jpg"}
        }
        assert json.loads(archive.read("mine-2/finetuned.json"))["base"] == "../mine-1"
        monkeypatch.undo()
        elsewhere = tmp_path / "elsewhere" / "deep"
        archive.extractall(elsewhere)
        shutil.rmtree(plan.out)
        with pytest.raises(FileNotFoundError, match="was fine-tuned from"):
            load_model(elsewhere / "mine-2", "cpu")  # the first base was a file on the other machine
        about = json.loads((elsewhere / "mine-1" / "finetuned.json").read_text()) | {"base": plan.base}
        (elsewhere / "mine-1" / "finetuned.json").write_text(json.dumps(about))
        loaded = load_model(elsewhere / "mine-2", "cpu").state_dict()
        assert all(torch.equal(whole[name], loaded[name]) for name in whole)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"base": "no-such-model"}, None, "unknown model 'no-such-model'"),
        ({"recipe": "memory"}, None, "memory recipe needs clips"),
        ({}, RuntimeError("MPS backend out of memory"), "the device has no memory left for training; take a smaller"),
        ({}, TypeError("of ours"), "training broke off (TypeError: of ours); see the app's log"),
    ],
)
def test_what_goes_wrong_is_a_sentence(
    plan: FinetunePlan, monkeypatch: pytest.MonkeyPatch, change: dict, error: Exception | None, said: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    if error is not None:
        monkeypatch.setattr(finetune, "finetune", fails)
    end = carried_out(replace(plan, **change))[-1]
    assert end.phase == FAILED
    assert said in end.error


def test_what_is_told_becomes_a_curve_and_a_status(plan: FinetunePlan) -> None:
    def told(plan: FinetunePlan, tell: Tell) -> None:
        tell(TrainingEvent(EVALUATION_BEFORE, 0, 1.0, 0.0, done=2, total=4))
        assert run.status() == "Evaluating the model as it is: photo 3 of 4 …"
        tell(TrainingEvent(EVALUATION_BEFORE, 0, 6.0, 0.0, scores={"score": 0.5, "click1": 0.4, "box": 0.6}))
        for step in range(1, 501):
            tell(TrainingEvent(TRAINING, step, 6.0 + step, step / 1000, figures={"loss": 3.0 - step % 2}))
        tell(TrainingEvent(EVALUATION, 500, 510.0, 0.5, scores={"score": 0.7, "click1": 0.65, "box": 0.8}))
        assert run.status() == (
            "Evaluating the fine-tuned model: photo 1 of 1 … Held-out photos, mIoU with one click: 40% before, 65% now."
        )

    run = FinetuneRun("mine-1", plan, told)
    run.start().finished.wait(10)
    assert run.end == RunEnd(STOPPED), "the other process was ended without a word"
    assert run.folder is None and "nothing was kept" in run.status()
    rows = run.curve()
    assert [row for row in rows if row["measure"] == "1 click"] == [
        {"minutes": 0.1, "value": 0.4, "measure": "1 click"},
        {"minutes": 8.5, "value": 0.65, "measure": "1 click"},
    ]
    assert {row["measure"] for row in rows} == {"loss", "1 click", "box"}
    assert all(0 <= row["value"] <= 1 for row in rows)
    points = thinned([(n / 100, 1 + n % 2) for n in range(10_000)])
    assert len(points) == 150
    assert all(loss == pytest.approx(1.5, abs=0.01) for _, loss in points)
    assert [at for at, _ in points] == sorted(at for at, _ in points)
    assert thinned([]) == [] and thinned([(1.0, 2.0)]) == [(1.0, 2.0)]


def test_nothing_is_zipped_by_halves(tmp_path: Path) -> None:
    (tmp_path / "mine-1").mkdir()
    with pytest.raises(ValueError, match="holds no fine-tuning"):
        zip_finetuned(tmp_path / "mine-1", tmp_path / "mine-1.zip")
    assert not list(tmp_path.glob("*.zip"))
