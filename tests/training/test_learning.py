"""The whole loop at toy size: scenes, the simulated user, learning, interrupting, going on."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2kit.config import SAM2Config
from sam2kit.datasets.samples import LabelledPicture
from sam2kit.evaluation.pictures import evaluate_pictures
from sam2kit.evaluation.processes import join_processes
from sam2kit.model.sam2 import SAM2
from sam2kit.training import nano
from sam2kit.training.held_out import held_out_pictures
from sam2kit.training.losses import LossWeights
from sam2kit.training.nano import corrections_at, freeze_memory, initialise, loss_weights_at
from sam2kit.training.scenes import random_scene
from sam2kit.training.session import Lesson, Rules, SessionTraining, play_lesson
from sam2kit.training.simulated_user import SessionPlan
from sam2kit.training.stream import SceneStream, augment, draw_targets
from sam2kit.training.textures import TextureBank
from sam2kit.training.trainer import Backward, Trainer, TrainOptions
from sam2kit.weights import BUNDLED, load_model
from tests.toy_model import TOY


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return TextureBank(3, count=12)


class TestScenes:
    def test_a_scene_follows_from_its_seed(self, bank: TextureBank) -> None:
        first, again, other = (random_scene(np.random.default_rng(s), bank, 96) for s in (5, 5, 6))
        assert np.array_equal(first.image, again.image)
        assert np.array_equal(first.leaves, again.leaves)
        assert not np.array_equal(first.image, other.image)

    def test_masks_are_exact_and_wholes_contain_their_parts(self, bank: TextureBank) -> None:
        for seed in range(8):
            scene = random_scene(np.random.default_rng(seed), bank, 96)
            assert scene.image.shape == (96, 96, 3)
            assert scene.image.dtype == np.uint8
            covered = sum(scene.mask(t).astype(int) for t in range(len(scene.targets)) if len(scene.targets[t]) == 1)
            assert covered.max() <= 1, "a pixel has one leaf"
            for t in scene.visible_targets():
                assert scene.mask(t).any()

    def test_masks_turn_with_the_picture(self, bank: TextureBank) -> None:
        """A target's colour statistics stay those of the same pixels after augmentation."""
        rng = np.random.default_rng(0)
        scene = random_scene(rng, bank, 96)
        scene.image[:] = 0
        target = scene.visible_targets()[0]
        scene.image[scene.mask(target)] = 255
        for seed in range(6):
            view = augment(np.random.default_rng(seed), scene, 64)
            inside = view.mask(target)
            if inside.sum() > 50 and (~inside).sum() > 50:
                grey = view.image.mean(axis=2)
                assert abs(grey[inside].mean() - grey[~inside].mean()) > 60

    def test_targets_repeat_only_when_there_are_too_few(self, bank: TextureBank) -> None:
        scene = random_scene(np.random.default_rng(1), bank, 96)
        visible = scene.visible_targets()
        drawn = draw_targets(np.random.default_rng(0), scene, len(visible) + 2)
        assert set(drawn) == set(visible)

    def test_a_step_sees_the_same_batch_again(self) -> None:
        options = {"side": 64, "pictures": 2, "objects": 2}
        first = SceneStream(1, window=4).batch(7, **options)
        again = SceneStream(1, window=4).batch(7, **options)
        other = SceneStream(1, window=4, rank=1).batch(7, **options)
        assert torch.equal(first.pixels, again.pixels)
        assert torch.equal(first.masks, again.masks)
        assert not torch.equal(first.pixels, other.pixels)


def two_squares() -> Lesson:
    """Two pictures, each with a bright and a dark square."""
    pixels = torch.zeros(2, 3, 64, 64)
    masks = torch.zeros(2, 2, 64, 64, dtype=torch.bool)
    for i, (y, x) in enumerate(((8, 8), (20, 30))):
        masks[i, 0, y : y + 16, x : x + 16] = True
        masks[i, 1, 44:60, 6 : 6 + 20 + 10 * i] = True
        pixels[i, :, masks[i, 0]] = 2.0
        pixels[i, :, masks[i, 1]] = -2.0
    return Lesson(pixels[None], masks[None])


def learn(folder: Path, steps: int, *, total: int = 40) -> tuple[SAM2, list[float]]:
    """Train a toy on two_squares up to `steps` of a budget of `total`."""
    torch.manual_seed(0)
    model = SAM2(SAM2Config.from_dict(TOY.as_dict()))
    initialise(model)
    freeze_memory(model)
    losses: list[float] = []

    def play(step: int, progress: float, backward: Backward) -> dict[str, float]:
        if step == steps:
            raise KeyboardInterrupt
        plans = [SessionPlan(((0, kind),), ((0, step % 2),)) for kind in ("click", "box", "hint", "click")]
        rules, weights = Rules(loss_stride=2, single_too=True), LossWeights(focal=2, balanced=1)
        generator = torch.Generator().manual_seed(step)
        loss = play_lesson(SessionTraining(model), two_squares(), plans, rules, weights, generator).total / 4
        backward(loss)
        losses.append(loss.item())
        return {"loss": loss.item()}

    options = TrainOptions(steps=total, learning_rate=3e-3, warmup_steps=5, average=0.9, save_every=10)
    trainer = Trainer(model, play, options, folder)
    with suppress(KeyboardInterrupt):
        trainer.run()
    return trainer.kept, losses


class TestTraining:
    def test_the_loss_falls_and_a_resumed_run_equals_an_uninterrupted_one(self, tmp_path: Path) -> None:
        whole, losses = learn(tmp_path / "whole", 40)
        assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
        learn(tmp_path / "parts", 20)
        resumed, rest = learn(tmp_path / "parts", 40)
        assert len(rest) == 20
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), name

    def test_float16_scales_the_loss_and_clips_what_is_not_scaled(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on an older GPU, whose gradients would else vanish. The clipped norms are 3, whatever the scale."""
        plain, scaled = (self._three_steps(tmp_path / name, monkeypatch, name == "scaled") for name in ("no", "scaled"))
        assert plain == ([3.0] * 3, [3.0] * 3, plain[2])
        assert scaled == ([3.0 * 2**16] * 3, [3.0] * 3, pytest.approx(plain[2], abs=1e-6))
        assert plain[2] != 1.0

    def _three_steps(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, scales: bool
    ) -> tuple[list[float], list[float], float]:
        """Gradients after backward, their norms when they are clipped, and the one weight in the end."""
        layer, gradients, norms = torch.nn.Linear(1, 1, bias=False), [], []
        torch.nn.init.ones_(layer.weight)
        accelerator = join_processes("cpu")
        if scales:  # accelerate itself does so for GPUs alone
            monkeypatch.setitem(vars(accelerator.state), "_mixed_precision", "fp16")
            accelerator.native_amp, accelerator.scaler = True, torch.amp.GradScaler("cpu", init_scale=2.0**16)
            monkeypatch.setattr(accelerator, "autocast", nullcontext)

        def play(step: int, progress: float, backward: Backward) -> dict[str, float]:
            loss = (3 * layer.weight).sum()
            backward(loss)
            gradients.append(layer.weight.grad.item())
            return {"loss": loss.item()}

        def clipped(parameters: list[torch.nn.Parameter], most: float) -> torch.Tensor:
            norms.append(float(clip(parameters, most)))
            return torch.tensor(norms[-1])

        clip = accelerator.clip_grad_norm_
        monkeypatch.setattr(accelerator, "clip_grad_norm_", clipped)
        options = TrainOptions(steps=3, learning_rate=0.1, warmup_steps=0, average=0.0)
        Trainer(layer, play, options, folder, accelerator=accelerator, bar=False).run()
        return gradients, norms, layer.weight.item()

    def test_weights_of_16_bits_are_refused(self, toy: SAM2, tmp_path: Path) -> None:
        toy.cast_weights(torch.bfloat16)
        with pytest.raises(ValueError, match="weights of bfloat16 cannot be trained; load the model with trainable"):
            Trainer(toy, lambda *_: {}, TrainOptions(steps=1), tmp_path)

    def test_frozen_memory_does_not_change(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        before = SAM2(SAM2Config.from_dict(TOY.as_dict())).memory_encoder.state_dict()
        after = learn(tmp_path, 20, total=20)[0].memory_encoder.state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before)

    def test_a_loss_that_is_not_a_number_stops_the_run(self, tmp_path: Path, toy: SAM2) -> None:
        def broken(_step: int, _progress: float, _backward: Backward) -> dict[str, float]:
            return {"loss": float("nan")}

        trainer = Trainer(toy, broken, TrainOptions(steps=3), tmp_path)
        with pytest.raises(FloatingPointError, match="step 0"):
            trainer.run()

    def test_options_are_checked(self) -> None:
        with pytest.raises(ValueError, match="steps or minutes"):
            TrainOptions()

    def test_the_recipe_leaves_a_model_that_loads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nano, "held_out_pictures", lambda: held_out_pictures(1))
        monkeypatch.setattr(nano, "_HALF_SIDE_BATCH", (1, 1))
        monkeypatch.setattr(nano, "_FULL_SIDE_BATCH", (1, 1))
        start = BUNDLED / "nano.safetensors"
        trained = nano.train_pictures(nano.Run(tmp_path, TrainOptions(steps=2, learning_rate=1e-5), weights=start))
        loaded = load_model(tmp_path / "nano.safetensors", "cpu")
        assert loaded.config == trained.config
        assert not loaded.memory_is_trained
        torch.testing.assert_close(loaded.no_mem_embed, load_model(start, "cpu").no_mem_embed, atol=1e-3, rtol=0)
        assert "click1" in (tmp_path / "log.jsonl").read_text()

    def test_the_recipe_gets_harder(self) -> None:
        rng = np.random.default_rng(0)
        assert corrections_at(0.05, rng) == 0
        assert max(corrections_at(1.0, rng) for _ in range(50)) == 4
        assert loss_weights_at(0.0).focal == 0
        assert loss_weights_at(1.0).focal == 8


class TestEvaluation:
    def test_scores_of_a_toy(self, toy: SAM2) -> None:
        truth = np.zeros((40, 50), bool)
        truth[10:30, 10:30] = True
        scores = evaluate_pictures(toy, [LabelledPicture(np.zeros((40, 50, 3), np.uint8), [truth])])
        assert scores["objects"] == 1
        assert all(0 <= v <= 1 for k, v in scores.items() if k != "objects")
        assert scores["best_of_3"] >= scores["click1"]

    def test_nothing_to_evaluate(self, toy: SAM2) -> None:
        with pytest.raises(ValueError, match="no object"):
            evaluate_pictures(toy, [])

    def test_held_out_pictures_never_change(self) -> None:
        pictures = list(held_out_pictures(2))
        again = list(held_out_pictures(2))
        assert all(np.array_equal(a.image, b.image) for a, b in zip(pictures, again, strict=True))
