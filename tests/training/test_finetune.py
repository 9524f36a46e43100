"""Fine-tuning from one end to the other, on tiny data: learning, stopping, going on, running out of memory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from sam2kit.cli import main
from sam2kit.datasets.in_memory import PictureInMemory
from sam2kit.datasets.opening import open_dataset
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.prompts import Prompt
from sam2kit.training import finetune as module
from sam2kit.training.budget import Budget
from sam2kit.training.exams import Exam
from sam2kit.training.finetune import finetune
from sam2kit.training.held_out import held_out_pictures
from sam2kit.training.recipes import RECIPES
from sam2kit.training.report import History
from sam2kit.training.room import Growth, Needs, Room, kept_bytes, measure_needs, plan_room
from sam2kit.training.school import FeatureStore, School
from sam2kit.weights import load_model, save_model

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def base(tmp_path: Path, toy: SAM2) -> Path:
    """A toy model in a file, as a base to train from."""
    return save_model(toy, tmp_path / "base.safetensors")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures with one or two bright squares each."""
    for number in range(10):
        rng = np.random.default_rng(number)
        image, mask = rng.integers(0, 60, (48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
        for value in range(1, 2 + number % 2):
            y, x = int(rng.integers(0, 28)), int(rng.integers(0, 22)) + 30 * (value - 1)
            mask[y : y + 18, x : x + 18] = value
        image[mask > 0] += 150
        for part, array in (("images", image), ("masks", mask)):
            path = tmp_path / "data" / part / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path / "data"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Four clips of six frames in which two squares move; one of them vanishes for a while."""
    for number in range(4):
        rng = np.random.default_rng(number)
        for t in range(6):
            image, mask = rng.integers(0, 60, (48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
            mask[6:22, 4 + 4 * t : 20 + 4 * t] = 0 if t == 3 else 1
            mask[28:44, 40 - 3 * t : 58 - 3 * t] = 2
            image[mask > 0] += 150
            for part, array in (("JPEGImages", image), ("Annotations", mask)):
                suffix = "jpg" if part == "JPEGImages" else "png"
                path = tmp_path / "clips" / part / f"c{number}" / f"{t:05d}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    return tmp_path / "clips"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps per epoch, and little general knowledge."""
    monkeypatch.setattr(module, "_LEAST_STEPS", 4)
    monkeypatch.setattr(module, "general_samples", lambda clips: one_scene())


def one_scene() -> list[PictureInMemory]:
    """For the forgetting check."""
    return [PictureInMemory("scene 0", picture) for picture in held_out_pictures(1, side=64, per_picture=1)]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder, "cpu").state_dict()


class TestPictures:
    def test_it_learns_and_the_result_loads(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        budget = Budget(epochs=6, rate=3e-3, overfit=4, corrections=1)
        result = finetune(base, pictures, "full", out=tmp_path / "out", budget=budget)
        assert result.after["score"] > result.before["score"] + 0.1
        assert result.better
        assert re.search(rf"^\| click1 +\| {100 * result.before['click1']:.1f} \(", result.text(), re.MULTILINE)
        exam = Exam(open_dataset(pictures).pictures[:4], Accelerator(cpu=True)).take(
            load_model(tmp_path / "out", "cpu")
        )
        assert exam["click1"] == pytest.approx(result.after["click1"], abs=1e-6)
        for name in (
            "curves.png",
            "predictions.jpg",
            "history.json",
            "finetuned.json",
            "finetuned.safetensors",
            "result.md",
        ):
            assert (tmp_path / "out" / name).stat().st_size > 0
        assert list((tmp_path / "out" / "tensorboard").glob("events*"))

    @pytest.mark.parametrize("recipe", ["decoder", "lora"])
    def test_small_results_change_little_else(self, base: Path, pictures: Path, tmp_path: Path, recipe: str) -> None:
        finetune(base, pictures, recipe, out=tmp_path / "out", budget=Budget(epochs=1, rate=1e-3, corrections=1))
        before, after = load_model(base, "cpu").state_dict(), weights_of(tmp_path / "out")
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert any(name.startswith("sam_mask_decoder.") for name in changed)
        assert any(name.startswith("image_encoder.trunk.blocks") for name in changed) == (recipe == "lora")
        assert not any(name.startswith(("memory", "image_encoder.neck")) for name in changed)

    def test_a_stopped_run_goes_on_as_if_nothing_had_happened(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        budget = Budget(epochs=3, rate=1e-3, corrections=1)
        finetune(base, pictures, "lora", out=tmp_path / "whole", budget=budget)

        def stop(exam: dict) -> None:
            if exam["epoch"] == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            finetune(base, pictures, "lora", out=tmp_path / "parts", budget=budget, watch=stop)
        assert load_model(tmp_path / "parts", "cpu") is not None, "the best so far is there"
        finetune(base, pictures, "lora", out=tmp_path / "parts", budget=budget)
        whole, parts = (json.loads((tmp_path / n / "history.json").read_text()) for n in ("whole", "parts"))
        scores = [[exam["score"] for exam in h["exams"]] for h in (whole, parts)]
        assert scores[0] == scores[1]
        a, b = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
        assert all(torch.equal(a[name], b[name]) for name in a)

    def test_stopped_in_the_middle_of_an_epoch(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        budget = Budget(epochs=2, rate=1e-3, corrections=1)
        finetune(base, pictures, "decoder", out=tmp_path / "whole", budget=budget)
        play = School.play

        def interrupted(self: School, step: int, progress: float, backward: object) -> dict[str, float]:
            if step == 5:
                os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C, in the middle of a step
            return play(self, step, progress, backward)

        monkeypatch.setattr(School, "play", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finetune(base, pictures, "decoder", out=tmp_path / "parts", budget=budget)
        steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
        assert steps == [1, 2, 3, 4, 5, 6], "the step that was begun is finished and kept"
        monkeypatch.setattr(School, "play", play)
        finetune(base, pictures, "decoder", out=tmp_path / "parts", budget=budget)
        a, b = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
        assert all(torch.equal(a[name], b[name]) for name in a)

    def test_a_folder_of_another_run_is_refused(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        finetune(base, pictures, "decoder", out=tmp_path / "out", budget=Budget(epochs=1, corrections=0))
        with pytest.raises(ValueError, match="another recipe and budget; choose another folder"):
            finetune(base, pictures, "lora", out=tmp_path / "out", budget=Budget(epochs=1, seed=1))

    def test_a_bad_sample_is_left_out(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        data = open_dataset(pictures)
        for path in (pictures / "images").glob("*.png"):
            if path.stem in ("1", "2", "3"):
                path.write_bytes(path.read_bytes()[:200])  # after the headers were read
        with pytest.warns(UserWarning, match=r"\.png.*left out"):
            result = finetune(base, data, "decoder", out=tmp_path / "out", budget=Budget(epochs=1, corrections=0))
        assert result.skipped

    def test_a_loss_that_is_not_a_number_names_the_sample(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "prepare", lambda model, recipe: model.no_mem_embed.data.fill_(float("nan")))
        with pytest.raises(FloatingPointError, match=r"the loss became nan at step 0 \(.*\d"):
            finetune(base, pictures, "decoder", out=tmp_path / "out", budget=Budget(epochs=1))


class TestClips:
    def test_memory_learns_and_the_encoder_stays(self, base: Path, clips: Path, tmp_path: Path) -> None:
        budget = Budget(epochs=1, rate=1e-3, frames=4, corrections=1, held_out=0.5)
        result = finetune(base, clips, out=tmp_path / "out", budget=budget)
        assert result.recipe == "memory"
        assert {"mask J&F", "click J&F", "box J&F"} <= result.after.keys()
        before, after = load_model(base, "cpu").state_dict(), weights_of(tmp_path / "out")
        changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
        assert {"memory_attention", "memory_encoder", "sam_mask_decoder"} <= changed
        assert "image_encoder" not in changed

    def test_pictures_teach_no_memory(self, base: Path, pictures: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="memory recipe needs clips"):
            finetune(base, pictures, "memory", out=tmp_path / "out")


class TestProcesses:
    @pytest.mark.parametrize("batch", [4, 1])
    def test_two_processes_learn_what_one_learns(self, base: Path, pictures: Path, tmp_path: Path, batch: int) -> None:
        """Same losses, step by step, and the same weights, to rounding; also where one has nothing to do."""
        alone = _train_apart(base, pictures, tmp_path / "one", 1, batch)
        both = _train_apart(base, pictures, tmp_path / "two", 2, batch)
        assert both == pytest.approx(alone, rel=1e-3)
        # AdamW turns the rounding of a gradient that is almost zero into a whole step, so single weights may differ
        start, a, b = (weights_of(source) for source in (base, tmp_path / "one", tmp_path / "two"))
        learnt = sum((a[n] - start[n]).square().sum() for n in a).sqrt()
        assert sum((a[n] - b[n]).square().sum() for n in a).sqrt() < 0.02 * learnt


def _train_apart(base: Path, data: Path, out: Path, processes: int, batch: int) -> list[float]:
    """The held-out scores of a run in processes of its own."""
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)]  # also on CPUs
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    call = [sys.executable, *(launch if processes > 1 else []), "-m", "sam2kit", "train", str(data)]
    call += ["--base", str(base), "--recipe", "lora", "--out", str(out), "--epochs", "1", "--rate", "1e-3"]
    call += ["--corrections", "1", "--device", "cpu", "--batch", str(batch)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines] + [json.loads((out / "history.json").read_text())["exams"][0]["score"]]


class TestRoom:
    def test_the_probe_grows_with_what_is_kept(self, toy: SAM2) -> None:
        needs = measure_needs(toy, RECIPES["full"])
        assert min(g.per_pixel for g in (needs.frame, needs.corrected, needs.tracked)) > 0
        small, large = needs.of(Room(64, 1, 1), 1), needs.of(Room(64, 1, 9), 1)
        assert large - small == pytest.approx(8 * needs.corrected.per_pixel * 64 * 64)
        assert needs.of(Room(64, 4, 1), 1) > small

    def test_a_frozen_encoder_keeps_nothing(self, toy: SAM2) -> None:
        RECIPES["decoder"].freeze(toy)
        assert measure_needs(toy, RECIPES["decoder"]).frame == Growth(0, 0)

    def test_weights_count_once_whatever_the_side(self) -> None:
        layer = torch.nn.Linear(1000, 1000)

        def keep(side: int) -> int:
            return kept_bytes(lambda: layer(torch.ones(side * side, 1000, requires_grad=True)).sum())

        growth = Growth.through({side: keep(side) for side in (2, 4)})
        assert growth.constant == pytest.approx(4e6)
        assert growth.per_pixel == pytest.approx(4000)

    def test_kept_bytes_counts_each_storage_once(self) -> None:
        x = torch.ones(1000, requires_grad=True)
        assert kept_bytes(lambda: (x.exp() * 2).sum()) == 4000
        assert kept_bytes(lambda: x.detach().sum()) == 0

    def test_rooms_shrink_step_by_step(self) -> None:
        room, seen = Room(512, 8, 4), []
        while room is not None:
            seen.append((room.objects, room.frames, room.side))
            room = room.smaller()
        assert seen == [
            (4, 8, 512), (2, 8, 512), (1, 8, 512), (1, 4, 512), (1, 2, 512), (1, 2, 384), (1, 2, 288), (1, 2, 192),
            (1, 2, 128),
        ]  # fmt: skip

    def test_the_largest_room_that_fits(self) -> None:
        frame, corrected = Growth(0, 1e6 / 128**2), Growth(0, 2e6 / 128**2)
        needs = Needs(frame, corrected, tracked=frame, fixed=0)
        assert plan_room(needs, Room(128, 8, 8), 2, free=10**9) == Room(128, 8, 8)
        assert plan_room(needs, Room(128, 8, 8), 2, free=35 * 10**6) == Room(128, 8, 2)
        with pytest.raises(ValueError, match=r"training needs about .* GB even with 1 object"):
            plan_room(needs, Room(128, 8, 8), 2, free=10**6)

    @pytest.mark.parametrize("error", [torch.OutOfMemoryError("simulated"), RuntimeError("MPS backend out of memory")])
    def test_a_full_device_makes_smaller_steps_with_the_same_result(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
    ) -> None:
        """A device that has room for one object at a time."""
        budget = Budget(epochs=1, rate=1e-3, corrections=1, objects=4)
        finetune(base, pictures, "decoder", out=tmp_path / "large", budget=budget)
        play, sizes = School._teach, []

        def teach(self: School, *arguments: object) -> None:
            sizes.append(self.room.objects)
            if self.room.objects > 1:
                raise error
            play(self, *arguments)

        monkeypatch.setattr(School, "_teach", teach)
        with pytest.warns(UserWarning, match=r"the device is full; going on with 1 object"):
            finetune(base, pictures, "decoder", out=tmp_path / "small", budget=budget)
        assert sizes[:3] == [4, 2, 1]
        assert set(sizes[3:]) == {1}
        a, b = weights_of(tmp_path / "large"), weights_of(tmp_path / "small")
        assert max((a[n] - b[n]).abs().max().item() for n in a) < 1e-4

    def test_other_errors_are_not_taken_for_a_full_device(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("the shapes do not fit")

        monkeypatch.setattr(School, "_teach", broken)
        with pytest.raises(RuntimeError, match="the shapes do not fit"):
            finetune(base, pictures, "decoder", out=tmp_path / "out", budget=Budget(epochs=1))

    def test_nothing_left_to_give_up(
        self, base: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise torch.OutOfMemoryError("simulated")

        monkeypatch.setattr(School, "_teach", full)
        with pytest.raises(torch.OutOfMemoryError, match="no smaller step"), pytest.warns(match="full"):
            finetune(base, pictures, "decoder", out=tmp_path / "out", budget=Budget(epochs=1))


class TestParts:
    def test_gradients_in_pieces_equal_those_at_once(self, toy: SAM2, pictures: Path) -> None:
        gradients = []
        for objects in (8, 1):
            toy.zero_grad()
            recipe = Budget(batch=3, corrections=1).changed(RECIPES["full"])
            samples = open_dataset(pictures).pictures
            school = School(toy.train(), samples, recipe, Room(64, 1, objects), 0, Accelerator(cpu=True))
            torch.manual_seed(0)
            school.play(0, 0.0, lambda loss: loss.backward())
            gradients.append({n: p.grad.clone() for n, p in toy.named_parameters() if p.grad is not None})
        whole, pieces = gradients
        assert whole.keys() == pieces.keys()
        for name, gradient in whole.items():
            torch.testing.assert_close(pieces[name], gradient, atol=1e-5, rtol=1e-3)

    def test_features_are_kept_up_to_a_size(self, toy: SAM2) -> None:
        features = toy.encode_image(torch.zeros(1, 3, 64, 64))
        size = sum(t.numel() * 4 for t in (features.stride16, features.stride8, features.stride4))
        store = FeatureStore(size + 1)
        store.put(("a",), features)
        store.put(("b",), features)
        store.put(None, features)
        assert store.get(("a",)) is not None
        assert store.get(("b",)) is store.get(None) is None

    def test_history_knows_when_nothing_gets_better(self) -> None:
        exams = [{"epoch": i, "step": 10 * i, "score": s} for i, s in enumerate((0.5, 0.7, 0.6, 0.7), start=1)]
        history = History({}, {"score": 0.4}, exams)
        assert history.best["epoch"] == 2
        assert history.stands_still(2)
        assert not history.stands_still(3)
        history.drop_after(25)
        assert history.latest_is_best

    @pytest.mark.parametrize(
        ("wrong", "match"),
        [
            ({"epochs": 0}, "epochs must be above 0, got 0"),
            ({"epochs": 2, "minutes": 3.0}, "either epochs or minutes"),
            ({"precision": "int8"}, "precision must be auto, float32"),
            ({"corrections": -1}, "corrections must be 0 or more, got -1"),
        ],
    )
    def test_wishes_are_checked(self, wrong: dict, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            Budget(**wrong)


class TestCommand:
    def test_train_and_use(
        self, base: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture, assets: Path
    ) -> None:
        out = tmp_path / "mine"
        call = ["train", str(pictures), "--base", str(base), "--recipe", "decoder", "--out", str(out)]
        assert main([*call, "--epochs", "1", "--rate", "0.003", "--corrections", "1"]) == 0
        said = capsys.readouterr()
        assert "10 pictures" in said.err
        assert re.search(r"^\| click1 +\|", said.out, re.MULTILINE)
        assert "repeat the command with --epochs 2: it goes on after epoch 1" in said.out
        photo = str(pictures / "images" / "0.png")
        assert main(["image", photo, "--point", "30,20", "--model", str(out), "--out", str(tmp_path / "masks")]) == 0
        tuned, plain = (ImagePredictor(load_model(source, "cpu")) for source in (out, base))
        answers = [p.predict(p.encode(photo), Prompt([[30, 20]])).raw for p in (tuned, plain)]
        assert not torch.equal(*answers)

    def test_what_is_wrong_is_said_in_a_line(self, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
        (tmp_path / "empty").mkdir()
        assert main(["train", str(tmp_path / "empty"), "--out", str(tmp_path / "out"), "--base", "nano"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
