"""What a training tells is true: how sure its numbers are, what they were measured on, how it goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from sam2kit.cli import main
from sam2kit.datasets.in_memory import PictureInMemory
from sam2kit.datasets.opening import open_dataset
from sam2kit.datasets.samples import LabelledPicture, Sample
from sam2kit.evaluation.rows import ObjectRow, bootstrap_interval, paired
from sam2kit.evaluation.side_by_side import compare_tracked
from sam2kit.finetuned import read_finetuned
from sam2kit.model.sam2 import SAM2
from sam2kit.model_card import model_card
from sam2kit.score_table import score_table
from sam2kit.training import finetune as module
from sam2kit.training.budget import Budget
from sam2kit.training.exams import Exam, held_out_rows
from sam2kit.training.finetune import finetune
from sam2kit.training.kept_scores import KeptScores, cache_folder
from sam2kit.training.predictions import write_predictions
from sam2kit.training.report import History
from sam2kit.weights import save_model
from tests.evaluation.samples_in_memory import moving_square

QUICK = {"corrections": 0, "rate": 1e-3, "general": False, "pictures": 0}


@pytest.fixture
def base(tmp_path: Path, toy: SAM2) -> Path:
    return save_model(toy, tmp_path / "base.safetensors")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eight pictures with two squares each: four to train on, three to choose the epoch on, one for the end."""
    for number in range(8):
        image, mask = np.random.default_rng(number).integers(0, 60, (48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
        mask[5:20, 5 + number : 20 + number], mask[25:40, 30:45] = 1, 2
        split = "train" if number < 4 else "val" if number < 7 else "test"
        for part, array in (("images", image + 150 * (mask > 0)[..., None].astype(np.uint8)), ("masks", mask)):
            path = tmp_path / "data" / split / part / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_STEPS", 2)


def steps_of(out: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("|")[1:-1]]


class TestNumbers:
    def test_intervals_units_counts_and_what_they_mean(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = finetune(base, pictures, "decoder", out=out, budget=Budget(epochs=1, **QUICK))
        history = json.loads((out / "history.json").read_text())
        change = [
            b["click1"] - a["click1"] for a, b in zip(history["rows"]["before"], history["rows"]["best"], strict=True)
        ]
        assert result.intervals["click1"]["change"] == pytest.approx(bootstrap_interval(change))
        assert result.intervals["score"]["objects"] == 6
        for low_high in (result.intervals["score"]["before"], result.intervals["box"]["before"]):
            assert low_high[0] <= low_high[1]
        text = result.text()
        assert text.startswith("Held-out samples: 3 pictures with 6 objects. In percent; in brackets the 95 %")
        assert "mIoU after 3 clicks" in text
        assert "best epoch was chosen on these same samples" in text
        assert "Its test split (1 sample) was left alone" in text
        assert (out / "result.md").read_text() == text + "\n"
        about = read_finetuned(out)
        assert about.metrics == json.loads(json.dumps(result.metrics))
        assert [len(about.data["seen"][use]) for use in ("training", "validation")] == [4, 3]
        page = model_card(out)
        assert result.table() in page
        assert "best epoch was chosen on these same samples" in page

    def test_the_table(self) -> None:
        metrics = {
            "before": {"click1": 0.5, "objects": 3.0, "gone": 1.0},
            "after": {"click1": 0.625, "objects": 3.0},
            "intervals": {"click1": {"before": [0.4, 0.6], "after": [0.6, 0.65], "change": [-0.01, 0.2], "objects": 3}},
        }
        header, _, row = (
            [cell.strip() for cell in line.split("|")[1:-1]] for line in score_table(metrics).splitlines()
        )
        assert header == ["measure", "base", "fine-tuned", "change", "objects", "meaning"]
        assert row == [
            "click1", "50.0 (40.0-60.0)", "62.5 (60.0-65.0)", "+12.5 (-1.0 to +20.0)", "3", "mIoU after 1 click",
        ]  # fmt: skip
        widths = {tuple(map(len, line.split("|"))) for line in score_table(metrics, aligned=True).splitlines()}
        assert len(widths) == 1
        plain = score_table({"before": {"mine": 0.5}, "after": {"mine": 0.4}}).splitlines()
        assert cells(plain[-1]) == ["mine", "50.0", "40.0", "-10.0"]

    def test_the_difference_is_taken_object_by_object(self) -> None:
        """Objects that are hard for both say nothing about the change."""
        rows = [[ObjectRow("a", str(n), {"box": n / 10 + gain}) for n in range(10)] for gain in (0.0, 0.05)]
        before, _, change = paired(rows[0], rows[1])["box"]
        assert change.low == pytest.approx(0.05) == pytest.approx(change.high)
        assert before.high - before.low > 0.2
        assert paired(rows[0][:3], rows[1][1:])["box"][2].objects == 2, "what only one of them has does not count"

    def test_a_base_that_knows_the_held_out_samples(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        finetune(base, pictures, "decoder", out=tmp_path / "one", budget=Budget(epochs=1, **QUICK))
        swapped = tmp_path / "swapped"
        for here, there in (("train", "val"), ("val", "train")):
            (swapped / there).parent.mkdir(exist_ok=True)
            (pictures / here).rename(swapped / there)
        result = finetune(tmp_path / "one", swapped, "decoder", out=tmp_path / "two", budget=Budget(epochs=1, **QUICK))
        assert any("trained on 4 of the 4 held-out samples" in note for note in result.notes)

    def test_by_heart(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        result = finetune(base, pictures, "decoder", out=tmp_path / "out", budget=Budget(epochs=1, overfit=2, **QUICK))
        assert result.notes == [
            "It was trained and evaluated on the same samples (overfit): this only says that training works."
        ]


class TestPictures:
    def test_from_the_worst_to_the_best(self, toy: SAM2, nano: SAM2, pictures: Path, tmp_path: Path) -> None:
        samples = open_dataset(pictures).pictures
        rows = [ObjectRow(s.name, "0", {"click1": n / 10}) for n, s in enumerate(samples)]
        for count, shown in ((2, 2), (20, 8)):
            path = tmp_path / f"{count}.jpg"
            write_predictions(samples, rows, toy, toy, path, count=count)
            with Image.open(path) as picture:
                assert picture.format == "JPEG"
                assert picture.height / picture.width == pytest.approx(shown * (48 / 64 / 3 + 0.32 / 9), rel=0.1)
        write_predictions(samples, [], toy, toy, tmp_path / "none.jpg", count=3)
        assert not (tmp_path / "none.jpg").exists()

    def test_a_clip(self, toy: SAM2, nano: SAM2, tmp_path: Path) -> None:
        clip = moving_square(6, name="square", late=2)
        shown = compare_tracked(clip, toy, nano)
        assert shown.name == "square, frame 4"
        assert len(shown.truths) == len(shown.before) == len(shown.after) == 2
        assert np.array_equal(shown.image, clip.frame(4))
        assert not shown.clicked_here
        assert shown.mean_after > 0.5
        write_predictions([clip], [ObjectRow("square", "1", {"mask J&F": 0.5})], toy, nano, tmp_path / "c.jpg", count=3)
        assert (tmp_path / "c.jpg").stat().st_size > 5000


class TestGoingOn:
    def test_more_epochs_in_the_same_folder(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        finetune(base, pictures, "decoder", out=out, budget=Budget(epochs=2, **QUICK))
        assert steps_of(out) == [1, 2, 3, 4]
        again = finetune(base, pictures, "decoder", out=out, budget=Budget(epochs=2, **QUICK))
        assert (steps_of(out), again.epochs) == ([1, 2, 3, 4], 2), "the same command does nothing anew"
        more = finetune(base, pictures, "decoder", out=out, budget=Budget(epochs=4, **QUICK))
        assert (steps_of(out), more.epochs) == (list(range(1, 9)), 4)
        assert [exam["epoch"] for exam in History.read(out, {}).exams] == [1, 2, 3, 4]
        assert more.before == again.before

    def test_more_minutes(self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        out = tmp_path / "out"
        # on a quick machine nothing gets better any more before the minutes are used up
        monkeypatch.setattr("sam2kit.training.report.History.stands_still", lambda self, patience: False)
        finetune(base, pictures, "decoder", out=out, budget=Budget(minutes=0.08, **QUICK))
        steps = len(steps_of(out))
        finetune(base, pictures, "decoder", out=out, budget=Budget(minutes=0.3, **QUICK))
        assert len(steps_of(out)) > steps
        assert steps_of(out) == list(range(1, len(steps_of(out)) + 1))

    def test_the_end_and_a_stop_say_how(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        monkeypatch.setattr("sam2kit.training.exams.general_samples", lambda clips: [])
        monkeypatch.setattr(module, "general_samples", lambda clips: [])
        call = ["train", str(pictures), "--base", str(base), "--recipe", "decoder", "--out", str(tmp_path / "out")]
        call += ["--corrections", "0"]
        examine, exams = module._FineTuning._end_epoch, []

        def stopped(self: module._FineTuning, *arguments: object) -> None:
            exams.append(0)
            if len(exams) == 2:
                raise KeyboardInterrupt
            examine(self, *arguments)

        monkeypatch.setattr(module._FineTuning, "_end_epoch", stopped)
        assert main([*call, "--epochs", "3"]) == 130
        said = capsys.readouterr().err.splitlines()[-1]
        assert (
            said == f"sam2kit: stopped; the best so far, of epoch 1, is in {tmp_path / 'out'}; the same command goes on"
        )
        assert main([*call, "--epochs", "3"]) == 0
        said = capsys.readouterr()
        assert "repeat the command with --epochs 6: it goes on after epoch 3" in said.out
        assert "evaluating epoch 3: 100%" in said.err, "there is a bar"
        monkeypatch.setattr(module._FineTuning, "_examine_base", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main([*call[:-4], "--corrections", "0", "--out", str(tmp_path / "new")]) == 130
        assert "no epoch was finished yet; the same command goes on" in capsys.readouterr().err

    def test_a_stopped_evaluation_says_so(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        def stopped(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("sam2kit.evaluation.protocols.picture_rows", stopped)
        call = ["evaluate", str(pictures), "--model", str(base), "--device", "cpu"]
        assert main([*call, "--out", str(tmp_path / "out")]) == 130
        assert capsys.readouterr().err.endswith("sam2kit: stopped; the same command goes on\n")
        assert main(call) == 130
        assert "with --out FOLDER, the same command would go on" in capsys.readouterr().err


class TestTime:
    def test_the_base_is_evaluated_once(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def rows(model: SAM2, sample: Sample) -> list[ObjectRow]:
            asked.append(Path(sample.name).name)
            return held_out_rows(model, sample)

        monkeypatch.setattr(module, "held_out_rows", rows)
        call = {"recipe": "decoder", "budget": Budget(epochs=1, **QUICK)}
        first = finetune(base, pictures, out=tmp_path / "one", **call)
        assert asked == ["4.png", "5.png", "6.png"] * 2, "the base, and epoch 1"
        second = finetune(base, pictures, out=tmp_path / "two", **call)
        assert asked[6:] == ["4.png", "5.png", "6.png"]
        assert second.before == first.before
        mask = pictures / "val" / "masks" / "5.png"
        Image.fromarray(np.array(Image.open(mask)) * (np.arange(64) < 60).astype(np.uint8)).save(mask)
        Image.fromarray(np.roll(np.array(Image.open(mask)), 1, 0)).save(mask)
        finetune(base, pictures, out=tmp_path / "three", **call)
        assert asked[9:] == ["5.png", "4.png", "5.png", "6.png"], "another truth is another question"

    def test_kept_scores_belong_to_one_model(self, toy: SAM2, tmp_path: Path) -> None:
        picture = LabelledPicture(np.full((20, 20, 3), 9, np.uint8), [np.eye(20, dtype=bool)])
        sample, rows = PictureInMemory("a", picture), [ObjectRow("a", "0", {"box": 0.5})]
        kept = KeptScores(toy, "held out")
        assert kept.rows(sample, lambda: rows)[0] == rows
        kept.write()
        assert kept.path.is_relative_to(cache_folder())
        renamed = PictureInMemory("b", picture)
        again, seconds = KeptScores(toy, "held out").rows(renamed, lambda: pytest.fail("it was there"))
        assert again == [ObjectRow("b", "0", {"box": 0.5})]
        assert seconds < 1
        other = [ObjectRow("a", "0", {"box": 0.9})]
        assert KeptScores(toy, "general").rows(sample, lambda: other)[0] == other
        toy.compute_dtype = None
        assert KeptScores(toy, "held out").rows(sample, lambda: other)[0] == other
        kept.path.write_text("{ damaged")
        toy.compute_dtype = torch.float32
        assert KeptScores(toy, "held out").rows(sample, lambda: other)[0] == other

    def test_an_evaluation_within_a_limit(self, toy: SAM2) -> None:
        def slow(model: SAM2, sample: Sample) -> list[ObjectRow]:
            time.sleep(0.05)
            return [ObjectRow(sample.name, "0", {"box": 0.5})]

        black = LabelledPicture(np.zeros((8, 8, 3), np.uint8), [])
        samples = [PictureInMemory(f"{n}", black) for n in range(40)]
        exam = Exam(samples, Accelerator(cpu=True), slow)
        rows = exam.rows(toy, limit=0.3)
        assert 1 <= len(rows) <= 7
        assert [row.sample for row in rows] == [sample.name for sample in exam.samples], "these are kept"
        assert [sample.name for sample in exam.samples] != [f"{n}" for n in range(len(rows))], "drawn at random"
        assert len(exam.rows(toy)) == len(rows)

    def test_minutes_hold_everything(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Evaluations that would take half of the time each take an eighth, and there is training between them."""

        def slow(model: SAM2, sample: Sample) -> list[ObjectRow]:
            time.sleep(2)
            return held_out_rows(model, sample)

        monkeypatch.setattr(module, "held_out_rows", slow)
        started = time.monotonic()
        result = finetune(base, pictures, "decoder", out=tmp_path / "out", budget=Budget(minutes=0.25, **QUICK))
        assert result.held_out.startswith("Held-out samples: 1 picture (of 3) with 2 objects")
        assert time.monotonic() - started < 25
        history = History.read(tmp_path / "out", {})
        assert len(history.exams) <= 3
        assert history.exams[-1]["step"] > 4
