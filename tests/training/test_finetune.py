"""Fine-tuning from one end to the other, on tiny data: learning, stopping, going on, running out of memory."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from tqdm import tqdm

from sam2kit.cli import main
from sam2kit.cli.finetuning_commands import TrainCommand
from sam2kit.data.opening import open_dataset
from sam2kit.data.sample import SampleInMemory
from sam2kit.evaluation.reports import ObjectRow
from sam2kit.finetuned import read_finetuned
from sam2kit.model.sam2 import SAM2
from sam2kit.model_card import model_card
from sam2kit.nano.held_out import held_out_pictures
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.prompts import Prompt
from sam2kit.training import callbacks
from sam2kit.training import finetune as module
from sam2kit.training.callbacks import (
    DETECTION,
    EVALUATION,
    EVALUATION_BEFORE,
    TRAINING,
    EventLog,
    ProgressBar,
    TrainingEvent,
)
from sam2kit.training.configuration import RECIPES, TrainingConfig
from sam2kit.training.finetune import finetune
from sam2kit.training.memory_plan import MicroBatch
from sam2kit.training.training_report import History, Result, intervals_of, result_so_far
from sam2kit.training.training_step import FineTuningSteps
from sam2kit.training.validation import Validation, held_out_means
from sam2kit.weights import load_model
from tests.training.conftest import assert_same_weights, weights_of, write_pictures

ROOT = Path(__file__).parent.parent.parent
QUICK = {"rate": 1e-3, "corrections": 1, "forgetting_check": False, "pictures": 0}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps per epoch, and one scene for the forgetting check."""
    monkeypatch.setattr(module, "_LEAST_STEPS", 4)
    monkeypatch.setattr(module, "_DETECTION_STEPS", 2)
    monkeypatch.setattr(module, "forgetting_samples", lambda clips: [one_scene()])


@cache
def one_scene() -> SampleInMemory:
    return SampleInMemory("scene 0", next(held_out_pictures(1, side=64, per_picture=1)))


class Stopper(EventLog):
    """Keeps all events, and stops at the first of which a question is true."""

    def __init__(self, stops_at: Callable[[TrainingEvent], bool] = lambda _: False) -> None:
        super().__init__()
        self.stops_at = stops_at

    def should_stop(self) -> bool:
        return self.stops_at(self.events[-1])

    def train(self, base: Path, data: Path, out: Path, recipe: str = "decoder", **overrides: object) -> Result:
        return finetune(base, data, recipe, out=out, callbacks=[self], **({"epochs": 3} | QUICK | overrides))


def steps_of(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]


def changed_parts(base: Path, out: Path) -> set[str]:
    before, after = weights_of(base), weights_of(out)
    return {name for name in before if not torch.equal(before[name], after[name])}


class TestResults:
    @pytest.mark.slow
    def test_it_learns_and_the_result_loads(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        result = finetune(base, pictures, "full", out=tmp_path / "out", epochs=6, rate=3e-3, overfit=4, corrections=1)
        assert result.after["score"] > result.before["score"] + 0.1
        assert result.better
        assert [note for note in result.notes if "(overfit): this only says that training works" in note]
        assert re.search(rf"^\| click1 +\| {100 * result.before['click1']:.1f} \(", result.text(), re.MULTILINE)
        validation = Validation(open_dataset(pictures).pictures[:4], Accelerator(cpu=True))
        scores = held_out_means(validation.evaluate(load_model(tmp_path / "out", "cpu")))
        assert scores["click1"] == pytest.approx(result.after["click1"], abs=1e-6)
        for name in ("curves.png", "predictions.jpg", "history.json", "finetuned.json", "result.md"):
            assert (tmp_path / "out" / name).stat().st_size > 0
        assert list((tmp_path / "out" / "tensorboard").glob("events*"))

    @pytest.mark.slow
    @pytest.mark.parametrize("recipe", ["decoder", "lora"])
    def test_small_results_change_little_else(self, base: Path, pictures: Path, tmp_path: Path, recipe: str) -> None:
        finetune(base, pictures, recipe, out=tmp_path / "out", epochs=1, **QUICK)
        changed = changed_parts(base, tmp_path / "out")
        assert any(name.startswith("sam_mask_decoder.") for name in changed)
        assert any(name.startswith("image_encoder.trunk.blocks") for name in changed) == (recipe == "lora")
        assert not any(name.startswith(("memory", "image_encoder.neck")) for name in changed)

    @pytest.mark.slow
    def test_memory_learns_and_the_encoder_stays(self, base: Path, clips: Path, tmp_path: Path) -> None:
        result = finetune(base, clips, out=tmp_path / "out", epochs=1, frames=4, held_out=0.5, **QUICK)
        assert result.recipe == "memory"
        assert {"mask J&F", "click J&F", "box J&F"} <= result.after.keys()
        changed = {name.split(".")[0] for name in changed_parts(base, tmp_path / "out")}
        assert {"memory_attention", "memory_encoder", "sam_mask_decoder"} <= changed
        assert "image_encoder" not in changed

    @pytest.mark.slow
    def test_how_far_the_numbers_can_be_trusted(self, base: Path, split_pictures: Path, tmp_path: Path) -> None:
        """Intervals, what they are measured on, and a base that knows the held-out samples."""
        out = tmp_path / "out"
        result = finetune(base, split_pictures, "decoder", out=out, epochs=1, **QUICK)
        assert result.intervals["score"]["objects"] == 6
        assert all(low <= high for low, high in (result.intervals[n]["before"] for n in ("score", "box")))
        text = result.text()
        assert text.startswith("Held-out samples: 3 pictures with 6 objects. In percent; in brackets the 95 %")
        assert "best epoch was chosen on these same samples" in text
        assert "Its test split (1 sample) was left alone" in text
        assert (out / "result.md").read_text() == text + "\n"
        about = read_finetuned(out)
        assert about.metrics == json.loads(json.dumps(result.metrics))
        assert [len(about.data["seen"][use]) for use in ("training", "validation")] == [4, 3]
        page = model_card(out)
        assert result.table() in page and "best epoch was chosen on these same samples" in page
        swapped = tmp_path / "swapped"
        for here, there in (("train", "val"), ("val", "train")):
            (swapped / there).parent.mkdir(exist_ok=True)
            (split_pictures / here).rename(swapped / there)
        result = finetune(out, swapped, "decoder", out=tmp_path / "two", epochs=1, **QUICK)
        assert any("trained on 4 of the 4 held-out samples" in note for note in result.notes)

    def test_a_test_split_in_place_of_val_and_few_objects(self, base: Path, tmp_path: Path) -> None:
        data = write_pictures(tmp_path / "data", ["train"] * 3 + ["test"], lambda number: 1)
        text = finetune(base, data, "decoder", out=tmp_path / "out", epochs=1, **QUICK).text()
        assert "They are the data's test split" in text and "left alone" not in text
        better = Result(tmp_path, "decoder", {"score": 0.5}, {"score": 0.6}, 1, 1, 1.0)
        for count, said in ((1, "1 held-out object is too few"), (4, "4 held-out objects are too few"), (5, "")):
            rows = [[ObjectRow("a", str(n), {"click1": value + n / 50}) for n in range(count)] for value in (0.5, 0.6)]
            known = intervals_of(*rows)
            assert ("change" in known["score"]) == (count >= 5)
            verdict = replace(better, intervals=known).verdict
            assert verdict.startswith(said) if said else not verdict

    def test_it_says_that_nothing_got_better(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        still = {**QUICK, "rate": 1e-12, "patience": 1}
        result = finetune(base, pictures, "decoder", out=tmp_path / "out", minutes=5, **still)
        assert result.stood_still and result.seconds < 200
        assert "as no later one was better, training ended" in result.text()
        command = TrainCommand(data=pictures, base="nano", out=tmp_path, minutes=5)
        assert f"--epochs {2 * result.epochs} in place of --minutes 5" in command._what_next(result)


class TestRefusals:
    @pytest.mark.slow
    def test_a_bad_sample_is_left_out_and_a_folder_belongs_to_a_run(
        self, base: Path, pictures: Path, tmp_path: Path
    ) -> None:
        data = open_dataset(pictures)
        for path in (pictures / "images").glob("[123].png"):
            path.write_bytes(path.read_bytes()[:200])  # after the headers were read
        with pytest.warns(UserWarning, match=r"\.png.*left out"):
            result = finetune(base, data, "decoder", out=tmp_path / "out", epochs=1, **QUICK)
        assert result.skipped
        with pytest.raises(ValueError, match=r"holds a run with another recipe and .*seed; choose another folder"):
            finetune(base, data, "lora", out=tmp_path / "out", epochs=1, seed=1, **QUICK)

    @pytest.mark.slow
    def test_a_loss_that_is_not_a_number_names_the_sample(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(TrainingConfig, "prepare", lambda self, model: model.no_mem_embed.data.fill_(float("nan")))
        with pytest.raises(FloatingPointError, match=r"the loss became nan at step 0 \(.*\d"):
            finetune(base, pictures, "decoder", out=tmp_path / "out", epochs=1, **QUICK)

    @pytest.mark.parametrize(
        ("recipe", "wrong", "match"),
        [
            ("lora", {"epochs": 0}, "epochs must be above 0, got 0"),
            ("lora", {"epochs": 2, "minutes": 3.0}, "either epochs or minutes"),
            ("lora", {"precision": "int8"}, "precision must be auto, float32"),
            ("lora", {"corrections": -1}, "corrections must be 0 or more, got -1"),
            ("lor", {}, r"unknown recipe 'lor'.*decoder, lora, full, memory, official"),
            ("memory", {}, "memory recipe needs clips"),
            pytest.param(
                "decoder", {"minutes": 1e-5}, "evaluation of the base .* give more minutes", marks=pytest.mark.slow
            ),
        ],
    )
    def test_what_cannot_be(
        self, base: Path, pictures: Path, tmp_path: Path, recipe: str, wrong: dict, match: str
    ) -> None:
        with pytest.raises(ValueError, match=match):
            finetune(base, pictures, recipe, out=tmp_path / "out", forgetting_check=False, **wrong)


@pytest.mark.slow
class TestCallbacks:
    def test_everything_that_happens_is_told(self, base: Path, split_pictures: Path, tmp_path: Path) -> None:
        log = Stopper()
        result = log.train(base, split_pictures, tmp_path / "out")
        events = log.events
        parts = [EVALUATION_BEFORE] * 4 + ([TRAINING] * 5 + [EVALUATION] * 4) * 3 + [DETECTION] * 2
        assert [event.phase for event in events] == parts
        assert [e.step for e in events if e.figures] == list(range(1, 13))
        assert all(math.isfinite(e.figures["loss"]) for e in events if e.figures)
        assert [(e.done, e.total) for e in events if e.total] == [(0, 3), (1, 3), (2, 3)] * 4 + [(1, 2), (2, 2)]
        scores = [e.scores for e in events if e.scores]
        assert scores[0] == result.before
        assert max(one["score"] for one in scores[1:]) == result.after["score"]
        assert [e.epoch for e in events if e.scores] == [0, 1, 2, 3]
        assert events[-1].saved == (result.best_epoch == 3)
        for name in ("progress", "seconds"):
            values = [getattr(event, name) for event in events]
            assert values == sorted(values)
        assert (events[0].progress, events[-1].progress) == (0, 1)

    @pytest.mark.parametrize(
        ("recipe", "stops_at"),
        [
            ("lora", lambda event: event.step == 6),
            ("decoder", lambda event: event.phase == EVALUATION and event.step == 8 and event.done == 1),
            ("decoder", lambda event: event.phase == EVALUATION_BEFORE),
            ("decoder", lambda event: event.step == 6 and os.kill(os.getpid(), signal.SIGINT)),
        ],
        ids=["in an epoch", "in an evaluation", "in the first evaluation", "by Ctrl-C"],
    )
    def test_stopped_and_gone_on_with(
        self, base: Path, split_pictures: Path, tmp_path: Path, recipe: str, stops_at: Callable[[TrainingEvent], bool]
    ) -> None:
        """The best so far is kept, and the same call goes on as if nothing had happened."""
        Stopper().train(base, split_pictures, tmp_path / "whole", recipe)
        log = Stopper(stops_at)
        with pytest.raises(KeyboardInterrupt):
            log.train(base, split_pictures, tmp_path / "parts", recipe)
        left = result_so_far(tmp_path / "parts")
        assert (left is not None) == (log.events[-1].step > 0)
        if left is not None:
            assert log.events[-1].step in (6, 8), "it stopped at once"
            assert left.after == pytest.approx(next(e.scores for e in log.events if e.phase == EVALUATION and e.scores))
            assert load_model(left.folder, "cpu") is not None
            assert (left.recipe, left.best_epoch, left.epochs) == (recipe, 1, 1)
            assert "| click1 |" in left.text()
        Stopper().train(base, split_pictures, tmp_path / "parts", recipe)
        whole, parts = (History.read(tmp_path / name, {}).evaluations for name in ("whole", "parts"))
        assert [one["score"] for one in whole] == [one["score"] for one in parts]
        assert steps_of(tmp_path / "parts") == list(range(1, 13))
        assert_same_weights(tmp_path / "whole", tmp_path / "parts")

    def test_in_a_thread(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        """The same as on the main thread, twice in one process."""
        Stopper().train(base, pictures, tmp_path / "here", epochs=1)
        for name in ("there", "again"):
            with ThreadPoolExecutor(1) as pool:
                pool.submit(Stopper().train, base, pictures, tmp_path / name, epochs=1).result()
            assert_same_weights(tmp_path / "here", tmp_path / name)

    def test_minutes_that_end_within_an_epoch(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was trained since the last evaluation is evaluated, also if the run was stopped in that evaluation."""
        monkeypatch.setattr(module, "_LEAST_STEPS", 10_000)
        with pytest.raises(KeyboardInterrupt):
            Stopper(lambda e: e.phase == EVALUATION).train(base, pictures, tmp_path / "out", epochs=None, minutes=0.3)
        assert result_so_far(tmp_path / "out") is None
        result = Stopper().train(base, pictures, tmp_path / "out", epochs=None, minutes=0.3)
        assert result.epochs == 1

    def test_prolonged(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        """By more epochs, and with a forgetting check at last, which makes no other run."""
        finetune(base, pictures, "decoder", out=tmp_path / "out", epochs=2, **QUICK)
        again = finetune(base, pictures, "decoder", out=tmp_path / "out", epochs=2, **QUICK)
        assert (steps_of(tmp_path / "out"), again.epochs) == (list(range(1, 9)), 2)
        more = finetune(base, pictures, "decoder", out=tmp_path / "out", epochs=3, **QUICK)
        assert (steps_of(tmp_path / "out"), more.epochs) == (list(range(1, 13)), 3)
        assert more.before == again.before
        checked = finetune(base, pictures, "decoder", out=tmp_path / "out", epochs=3, rate=1e-3, corrections=1)
        assert 0 <= checked.after.pop("scenes click1") <= 1
        assert checked.after == more.after

    @pytest.mark.slow
    def test_more_minutes(self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # on a quick machine nothing gets better any more before the minutes are used up
        monkeypatch.setattr(History, "stands_still", lambda self, patience: False)
        finetune(base, pictures, "decoder", out=tmp_path / "out", minutes=0.08, **QUICK)
        steps = steps_of(tmp_path / "out")
        finetune(base, pictures, "decoder", out=tmp_path / "out", minutes=0.3, **QUICK)
        more = steps_of(tmp_path / "out")
        assert len(more) > len(steps) and more == list(range(1, len(more) + 1))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [4, 1])
def test_two_processes_learn_what_one_learns(base: Path, pictures: Path, tmp_path: Path, batch: int) -> None:
    """Same losses, step by step, and the same weights, to rounding; also where one has nothing to do."""
    alone = train_apart(base, pictures, tmp_path / "one", 1, batch)
    both = train_apart(base, pictures, tmp_path / "two", 2, batch)
    assert both == pytest.approx(alone, rel=1e-3)
    # AdamW turns the rounding of a gradient that is almost zero into a whole step, so single weights may differ
    start, a, b = (weights_of(source) for source in (base, tmp_path / "one", tmp_path / "two"))
    learnt = sum((a[n] - start[n]).square().sum() for n in start).sqrt()
    assert a.keys() == b.keys() > start.keys(), "one of them learns to find objects, too"
    assert sum((a[n] - b[n]).square().sum() for n in start).sqrt() < 0.02 * learnt


def train_apart(base: Path, data: Path, out: Path, processes: int, batch: int) -> list[float]:
    """The losses and the held-out score of a run in processes of its own."""
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]  # also on CPUs
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    call = [sys.executable, *(launch if processes > 1 else []), "-m", "sam2kit", "train", str(data)]
    call += ["--base", str(base), "--recipe", "lora", "--out", str(out), "--epochs", "1", "--rate", "1e-3"]
    call += ["--corrections", "1", "--device", "cpu", "--batch", str(batch)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines] + [History.read(out, {}).evaluations[0]["score"]]


class TestFullDevice:
    @pytest.mark.slow
    def test_smaller_steps_give_the_same_result(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A device with memory for one object at a time."""
        finetune(base, pictures, "decoder", out=tmp_path / "large", epochs=1, objects=4, **QUICK)
        train_on, sizes = FineTuningSteps._train_on, []

        def limited(self: FineTuningSteps, *arguments: object) -> None:
            sizes.append(self.micro_batch.objects)
            if self.micro_batch.objects > 1:
                raise RuntimeError("MPS backend out of memory")
            train_on(self, *arguments)

        monkeypatch.setattr(FineTuningSteps, "_train_on", limited)
        with pytest.warns(UserWarning, match=r"the device is full; going on with 1 object"):
            finetune(base, pictures, "decoder", out=tmp_path / "small", epochs=1, objects=4, **QUICK)
        assert sizes[:3] == [4, 2, 1]
        assert set(sizes[3:]) == {1}
        a, b = weights_of(tmp_path / "large"), weights_of(tmp_path / "small")
        assert max((a[n] - b[n]).abs().max().item() for n in a) < 1e-4

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("error", "match"),
        [(RuntimeError("the shapes do not fit"), "the shapes do not fit"), (MemoryError(), "no smaller step")],
        ids=["another error", "nothing left to give up"],
    )
    @pytest.mark.filterwarnings("ignore:the device is full")
    def test_what_cannot_go_on(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, match: str
    ) -> None:
        def fails(*_: object) -> None:
            raise error

        monkeypatch.setattr(FineTuningSteps, "_train_on", fails)
        with pytest.raises(RuntimeError, match=match):
            finetune(base, pictures, "decoder", out=tmp_path / "out", epochs=1, **QUICK)

    @pytest.mark.slow
    def test_gradients_in_pieces_equal_those_at_once(self, toy: SAM2, pictures: Path) -> None:
        gradients = []
        for objects in (8, 1):
            toy.zero_grad()
            steps = steps_on(toy.train(), pictures, "full", objects)
            steps.training_step(0, 0.0, lambda loss: loss.backward())
            gradients.append({n: p.grad.clone() for n, p in toy.named_parameters() if p.grad is not None})
        whole, pieces = gradients
        assert whole.keys() == pieces.keys()
        for name, gradient in whole.items():
            torch.testing.assert_close(pieces[name], gradient, atol=1e-5, rtol=1e-3)

    def test_features_are_kept_as_long_as_there_is_room(self, toy: SAM2, pictures: Path) -> None:
        RECIPES["decoder"].freeze(toy)
        steps, pixels, keys = steps_on(toy, pictures, "decoder", 8), torch.rand(2, 3, 64, 64), ["a", "b"]
        size = sum(t.nbytes for t in vars(toy.encode_image(pixels[:1])).values() if isinstance(t, torch.Tensor))
        steps._room = size + 1
        first = steps._encode(pixels, keys)
        assert steps._features.keys() == {"a"} and steps._room == 1
        again = steps._encode(pixels, keys)
        torch.testing.assert_close(again.stride16, first.stride16)
        assert steps._encode(pixels[:1], [None]) is not None and len(steps._features) == 1
        steps.micro_batch = MicroBatch(256, 4, 1)
        with pytest.warns(UserWarning, match="the device is full"):
            assert steps.shrink()
        assert not steps._features and steps._room == steps._most > size, "smaller pictures are kept from then on"


def steps_on(model: SAM2, pictures: Path, recipe: str, objects: int) -> FineTuningSteps:
    config, samples = RECIPES[recipe].changed(batch=3, corrections=1), open_dataset(pictures).pictures
    return FineTuningSteps(model, samples, config, MicroBatch(64, 1, objects), Accelerator(cpu=True))


@pytest.mark.slow
def test_train_stop_go_on_and_use_in_the_shell(
    base: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    call = ["train", str(pictures), "--base", str(base), "--recipe", "decoder", "--corrections", "0"]
    call += ["--out", str(out), "--epochs", "2", "--rate", "0.003"]
    end_epoch = module._FineTuningRun._end_epoch

    def stopped(self: module._FineTuningRun, epoch: int, *arguments: object) -> None:
        if epoch == 2:
            raise KeyboardInterrupt
        end_epoch(self, epoch, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(module._FineTuningRun, "_end_epoch", stopped)
        assert main(call) == 130
    said = capsys.readouterr().err
    assert "10 pictures" in said
    assert said.splitlines()[-1] == (
        f"sam2kit: stopped; the best so far, of epoch 1, is in {out}; the same command goes on"
    )
    assert main(call) == 0
    said = capsys.readouterr()
    assert "repeat the command with --epochs 4: it goes on after epoch 2" in said.out
    assert re.search(r"^\| click1 +\|", said.out, re.MULTILINE)
    assert "evaluating epoch 2: 100%" in said.err, "there is a bar"
    photo = str(pictures / "images" / "0.png")
    assert main(["image", photo, "--point", "30,20", "--model", str(out), "--out", str(tmp_path / "masks")]) == 0
    tuned, plain = (ImagePredictor(load_model(source, "cpu")) for source in (out, base))
    answers = [p.predict(p.encode(photo), Prompt([[30, 20]])).raw for p in (tuned, plain)]
    assert not torch.equal(*answers)
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    assert main(["train", str(tmp_path / "empty"), "--out", str(out), "--base", "nano"]) == 2
    assert capsys.readouterr().err.count("\n") == 1, "what is wrong is said in a line"


def test_bars_that_are_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "tqdm", partial(tqdm, disable=True))
    bar = ProgressBar()
    for event in (TrainingEvent(EVALUATION, total=2, done=1), TrainingEvent(TRAINING, step=1, figures={"loss": 1.0})):
        bar.on_event(event)
        bar.on_event(event)
    bar.close()
