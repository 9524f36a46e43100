"""Evaluation before and after, within its time, and what the report makes of it; and what fits a device at once."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from sam2kit.data.opening import open_dataset
from sam2kit.data.sample import LabelledFrames, Sample, SampleInMemory
from sam2kit.evaluation.reports import ObjectRow, paired
from sam2kit.model.sam2 import SAM2
from sam2kit.model_card import score_table
from sam2kit.predict.image import ImagePredictor
from sam2kit.training import finetune as module
from sam2kit.training.configuration import RECIPES
from sam2kit.training.finetune import finetune
from sam2kit.training.memory_plan import MemoryNeeds, MicroBatch, kept_bytes, measure_needs, plan_micro_batch
from sam2kit.training.training_report import History, write_predictions
from sam2kit.training.validation import Validation, held_out_rows
from tests.evaluation.samples_in_memory import moving_square

QUICK = {"corrections": 0, "rate": 1e-3, "forgetting_check": False, "pictures": 0}


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAST_STEPS", 2)


def test_the_table() -> None:
    known = {"before": [0.4, 0.6], "after": [0.6, 0.65], "change": [-0.01, 0.2], "objects": 3}
    metrics = {"before": {"click1": 0.5, "gone": 1.0}, "after": {"click1": 0.625}, "intervals": {"click1": known}}
    cells = "50.0 (40.0-60.0) | 62.5 (60.0-65.0) | +12.5 (-1.0 to +20.0)"
    assert score_table(metrics).splitlines()[2:] == [f"| click1 | {cells} | 3 | mIoU after 1 click |"]
    assert score_table({"before": {"mine": 0.5}, "after": {"mine": 0.4}}).endswith("| mine | 50.0 | 40.0 | -10.0 |")
    assert len({len(line) for line in score_table(metrics, aligned=True).splitlines()}) == 1


def test_the_difference_is_taken_object_by_object() -> None:
    """Objects that are hard for both say nothing about the change."""
    rows = [[ObjectRow("a", str(n), {"box": n / 10 + gain}) for n in range(10)] for gain in (0.0, 0.05)]
    before, _, change = paired(rows[0], rows[1])["box"]
    assert change.low == pytest.approx(0.05) == pytest.approx(change.high)
    assert before.high - before.low > 0.2
    assert paired(rows[0][:3], rows[1][1:])["box"][2].objects == 2, "what only one of them has does not count"


def test_history_knows_when_nothing_gets_better(tmp_path: Path) -> None:
    scores = [{"epoch": i, "step": 10 * i, "score": s} for i, s in enumerate((0.5, 0.7, 0.6, 0.7), start=1)]
    history = History({}, {"score": 0.4}, scores)
    assert history.best["epoch"] == 2
    assert history.stands_still(2)
    assert not history.stands_still(3)
    history.drop_after(25)
    assert history.latest_is_best
    history.write(tmp_path)
    assert History.read(tmp_path, {}) == history
    for damaged in ("{", "[]", '{"identity": 3, "rows": {"best": [1]}}', '{"identity": {}, "evaluations": [{}]}'):
        (tmp_path / "history.json").write_text(damaged)
        with pytest.raises(ValueError, match="cannot be read"):
            History.read(tmp_path, {})


@pytest.mark.slow
def test_predictions_from_the_worst_to_the_best(toy: SAM2, nano: SAM2, pictures: Path, tmp_path: Path) -> None:
    samples, both = open_dataset(pictures).samples, [ImagePredictor(toy), ImagePredictor(nano)]
    rows = [ObjectRow(s.name, "0", {"click1": n / 10}) for n, s in enumerate(samples)]
    for count, shown in ((2, 2), (20, 10)):
        write_predictions(tmp_path / f"{count}.jpg", samples, rows, *both, count=count)
        with Image.open(tmp_path / f"{count}.jpg") as picture:
            assert picture.format == "JPEG"
            assert picture.height / picture.width == pytest.approx(shown * (48 / 64 / 3 + 0.32 / 9), rel=0.1)
    write_predictions(tmp_path / "none.jpg", samples, [], *both, count=3)
    assert not (tmp_path / "none.jpg").exists()
    clip = moving_square(6, name="square", late=2)
    write_predictions(tmp_path / "clip.jpg", [clip], [ObjectRow("square", "1", {"mask J&F": 0.5})], *both, count=3)
    assert (tmp_path / "clip.jpg").stat().st_size > 5000


class TestTime:
    @pytest.mark.slow
    def test_the_base_is_evaluated_once(
        self, base: Path, split_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def rows(model: SAM2, sample: Sample) -> list[ObjectRow]:
            asked.append(Path(sample.name).name)
            return held_out_rows(model, sample)

        def train(name: str) -> dict[str, float]:
            asked.clear()
            return finetune(base, split_pictures, "decoder", out=tmp_path / name, epochs=1, **QUICK).before

        monkeypatch.setattr(module, "held_out_rows", rows)
        first = train("one")
        assert asked == ["4.png", "5.png", "6.png"] * 2, "the base, and epoch 1"
        assert train("two") == first
        assert asked == ["4.png", "5.png", "6.png"]
        mask = split_pictures / "val" / "masks" / "5.png"
        Image.fromarray(np.roll(np.array(Image.open(mask)), 1, 0)).save(mask)
        train("three")
        assert asked == ["5.png", "4.png", "5.png", "6.png"], "another truth is another question"

    def test_kept_scores_belong_to_one_model(self, toy: SAM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SAM2KIT_CACHE", str(tmp_path))
        asked: list[str] = []

        def rows(model: SAM2, sample: Sample) -> list[ObjectRow]:
            asked.append(sample.name)
            return [ObjectRow(sample.name, "0", {"box": 0.5})]

        def evaluate(name: str, kept: str = "held out") -> list[ObjectRow]:
            return Validation([SampleInMemory(name, picture)], Accelerator(cpu=True), rows).evaluate(toy, kept=kept)

        picture = LabelledFrames.of_picture(np.full((20, 20, 3), 9, np.uint8), [np.eye(20, dtype=bool)])
        evaluate("a")
        assert evaluate("b") == [ObjectRow("b", "0", {"box": 0.5})]
        assert asked == ["a"], "the same picture under another name"
        evaluate("c", "general")
        toy.compute_dtype = None
        evaluate("d")
        assert asked == ["a", "c", "d"], "another way of measuring, another precision"
        for path in (tmp_path / "scores").iterdir():
            path.write_text("{ damaged")
        evaluate("e")
        assert asked == ["a", "c", "d", "e"]

    def test_an_evaluation_within_a_limit(self, toy: SAM2) -> None:
        def slow(model: SAM2, sample: Sample) -> list[ObjectRow]:
            time.sleep(0.05)
            return [ObjectRow(sample.name, "0", {"box": 0.5})]

        black = LabelledFrames.of_picture(np.zeros((8, 8, 3), np.uint8), [])
        validation = Validation([SampleInMemory(f"{n}", black) for n in range(40)], Accelerator(cpu=True), slow)
        rows = validation.evaluate(toy, limit=0.3)
        assert 1 <= len(rows) <= 7
        assert [row.sample for row in rows] == [sample.name for sample in validation.samples], "these are kept"
        assert [sample.name for sample in validation.samples] != [f"{n}" for n in range(len(rows))], "drawn at random"
        assert len(validation.evaluate(toy)) == len(rows)

    @pytest.mark.slow
    def test_minutes_hold_everything(
        self, base: Path, split_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Evaluations that would take half of the time each take an eighth, and there is training between them."""

        def slow(model: SAM2, sample: Sample) -> list[ObjectRow]:
            time.sleep(2)
            return held_out_rows(model, sample)

        monkeypatch.setattr(module, "held_out_rows", slow)
        started = time.monotonic()
        result = finetune(base, split_pictures, "decoder", out=tmp_path / "out", minutes=0.25, **QUICK)
        assert result.held_out.startswith("Held-out samples: 1 picture (of 3) with 2 objects")
        assert time.monotonic() - started < 25
        evaluations = History.read(tmp_path / "out", {}).evaluations
        assert len(evaluations) <= 3
        assert evaluations[-1]["step"] > 4


class TestMemoryPlan:
    @pytest.mark.slow
    def test_the_probe_grows_with_what_is_kept(self, toy: SAM2) -> None:
        needs = measure_needs(toy, RECIPES["full"])
        assert needs.per_pixel.min() > 0
        small, large = needs.of(MicroBatch(64, 1, 1), 1), needs.of(MicroBatch(64, 1, 9), 1)
        assert large - small == pytest.approx(8 * needs.per_pixel[1] * 64 * 64)
        assert needs.of(MicroBatch(64, 4, 1), 1) > small
        RECIPES["decoder"].freeze(toy)
        frozen = measure_needs(toy, RECIPES["decoder"])
        assert (frozen.constant[0], frozen.per_pixel[0]) == (0, 0), "a frozen encoder keeps nothing"

    def test_weights_count_once_whatever_the_side(self) -> None:
        layer = torch.nn.Linear(1000, 1000)

        def keep(side: int) -> int:
            return kept_bytes(lambda: layer(torch.ones(side * side, 1000, requires_grad=True)).sum())

        needs = MemoryNeeds.through({side: (0, keep(side), 0) for side in (2, 4)})
        assert (needs.constant[1], needs.per_pixel[1]) == pytest.approx((4e6, 4000))

    def test_the_largest_that_fits(self) -> None:
        sizes, size = [], MicroBatch(512, 8, 8)
        while (size := size.shrunk()) is not None:
            sizes.append((size.objects, size.frames, size.side))
        assert sizes == [
            (4, 8, 512), (2, 8, 512), (1, 8, 512), (1, 4, 512), (1, 2, 512), (1, 2, 384), (1, 2, 288), (1, 2, 192),
            (1, 2, 128),
        ]  # fmt: skip
        needs, wanted = MemoryNeeds(np.zeros(3), np.array([1e6, 2e6, 1e6]) / 128**2), MicroBatch(128, 8, 8)
        assert plan_micro_batch(needs, wanted, 2, free=10**9) == wanted
        assert plan_micro_batch(needs, wanted, 2, free=35 * 10**6) == MicroBatch(128, 8, 2)
        with pytest.raises(ValueError, match=r"training needs about .* GB even with 1 object"):
            plan_micro_batch(needs, wanted, 2, free=10**6)
