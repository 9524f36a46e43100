"""Learning to track: clips, one training step, evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sam2kit.evaluation.clips import evaluate_clips
from sam2kit.model.sam2 import SAM2
from sam2kit.training import nano
from sam2kit.training.clip_stream import ClipStream, view_of
from sam2kit.training.held_out import held_out_clips
from sam2kit.training.losses import LossWeights
from sam2kit.training.moving_scenes import random_clip
from sam2kit.training.parameters import parameter_groups, slower
from sam2kit.training.pasted_clips import pasted_clips, write_examples
from sam2kit.training.session import Lesson, Rules, SessionLosses, SessionTraining, play_lesson
from sam2kit.training.simulated_user import SessionPlan
from sam2kit.training.textures import TextureBank
from sam2kit.training.trainer import TrainOptions
from sam2kit.weights import BUNDLED, load_model

WEIGHTS = LossWeights(focal=8, balanced=0.2)


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return TextureBank(3, count=8)


@pytest.fixture
def batch() -> Lesson:
    """Two clips of five frames with two squares each; the first one vanishes on frame 3."""
    masks = torch.zeros(5, 2, 2, 64, 64, dtype=torch.bool)
    for t in range(5):
        masks[t, :, 0, 8:24, 4 + 4 * t : 20 + 4 * t] = t != 3
        masks[t, :, 1, 36:56, 30 - 3 * t : 50 - 3 * t] = True
    pixels = torch.randn(5, 2, 3, 64, 64) * 0.1 + masks.float().sum(2, keepdim=True)
    return Lesson(pixels, masks)


class TestClips:
    def test_every_pixel_has_one_owner_and_a_seed_one_clip(self, bank: TextureBank) -> None:
        clip = random_clip(np.random.default_rng(1), bank, 96, frames=6)
        again = random_clip(np.random.default_rng(1), bank, 96, frames=6)
        assert clip.frames.shape == (6, 96, 96, 3)
        assert clip.owners.shape == (6, 96, 96)
        assert np.array_equal(clip.frames, again.frames)
        assert np.array_equal(clip.owners, again.owners)

    def test_things_move_hide_and_leave(self, bank: TextureBank) -> None:
        moved = gone = 0
        for seed in range(20):
            clip = random_clip(np.random.default_rng(seed), bank, 96, frames=12)
            for i in clip.visible(0):
                areas = [clip.mask(t, i).sum() for t in range(12)]
                moved += not np.array_equal(clip.mask(0, i), clip.mask(11, i))
                gone += min(areas) == 0
                assert areas[0] >= 0.004 * 96 * 96
        assert moved > 20
        assert gone > 5

    def test_a_view_changes_all_frames_alike(self, bank: TextureBank) -> None:
        clip = random_clip(np.random.default_rng(1), bank, 96, frames=12)
        view = view_of(np.random.default_rng(0), clip, 48, 5)
        assert view.frames.shape == (5, 48, 48, 3)
        assert set(np.unique(view.owners)) <= set(np.unique(clip.owners))

    def test_a_step_sees_the_same_clips_again(self) -> None:
        one, two = (ClipStream(4, window=3).batch(2, side=64, clips=2, frames=4, objects=2) for _ in range(2))
        assert torch.equal(one.pixels, two.pixels)
        assert one.masks.shape == (4, 2, 2, 64, 64)
        assert one.masks[0].flatten(2).any(dim=2).all(), "all are visible on the first frame"

    def test_real_pixels(self, assets: Path, tmp_path: Path) -> None:
        clips = list(pasted_clips(assets / "photos", frames=9, size_hw=(60, 80)))
        assert [len(c.masks) for c in clips] == [2, 1, 2]
        growing, hidden, leaving = (c.masks[1].reshape(9, -1).sum(axis=1) for c in clips)
        assert growing[-1] > 2 * growing[0]
        assert hidden.min() < 0.8 * hidden[0]
        assert leaving.min() == 0 < leaving[-1]

    def test_the_shipped_examples_are_those_clips(self, assets: Path, tmp_path: Path) -> None:
        made = write_examples(assets / "photos", tmp_path, frames=2)
        assert sorted(p.name for p in made) == sorted(p.name for p in (assets / "clips").glob("*.mp4"))


def play(model: SAM2, lesson: Lesson, plan: SessionPlan, rules: Rules, seed: int = 0) -> SessionLosses:
    """The same session with each object of a lesson."""
    plans = [plan] * lesson.masks[0].flatten(0, 1).shape[0]
    return play_lesson(SessionTraining(model), lesson, plans, rules, WEIGHTS, torch.Generator().manual_seed(seed))


class TestTracking:
    @pytest.mark.parametrize("kind", ["mask", "click", "box"])
    def test_gradients_reach_the_memory(self, toy: SAM2, batch: Lesson, kind: str) -> None:
        plan = SessionPlan(((0, kind),), ((0, 1), (2, 1)))
        done = play(toy.train(), batch, plan, Rules(true_presence=True))
        done.total.backward()
        assert 0 <= done.means()["missed"] <= 1
        for part in (toy.memory_encoder, toy.memory_attention, toy.obj_ptr_proj, toy.image_encoder):
            assert sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None) > 0
        assert toy.maskmem_tpos_enc.grad.abs().sum() > 0
        assert toy.no_obj_embed_spatial.grad.abs().sum() > 0, "an object was absent"
        assert (toy.mask_downsample.weight.grad is not None) == (kind == "mask")

    def test_it_learns(self, toy: SAM2, batch: Lesson) -> None:
        optimizer = torch.optim.AdamW(toy.train().parameters(), lr=2e-3)
        losses = []
        for step in range(25):
            rules = Rules(loss_stride=2, true_presence=True, truth_in_memory=0.9)
            loss = play(toy, batch, SessionPlan(((0, "mask"),)), rules, seed=step).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert np.mean(losses[-3:]) < 0.7 * np.mean(losses[:3])

    def test_parts_can_learn_slower(self, toy: SAM2) -> None:
        groups = parameter_groups(toy, 0.1, slower("image_encoder.", 0.5))
        assert {(g["weight_decay"], g["share"]) for g in groups} == {(0.1, 1.0), (0.0, 1.0), (0.1, 0.5), (0.0, 0.5)}
        slow = {id(p) for g in groups if g["share"] == 0.5 for p in g["params"]}
        assert slow == {id(p) for p in toy.image_encoder.parameters()}

    def test_the_recipe_leaves_a_model_that_tracks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(nano, "evaluate_pictures", lambda model, pictures: {"click1": 0.0})
        monkeypatch.setattr(nano, "_HALF_SIDE_BATCH", (1, 1))
        monkeypatch.setattr(nano, "_FULL_SIDE_BATCH", (1, 1))
        monkeypatch.setattr(nano, "_HALF_SIDE_CLIPS", (1, 4, 1))
        monkeypatch.setattr(nano, "_FULL_SIDE_CLIPS", (1, 4, 1))
        options = TrainOptions(steps=3, learning_rate=1e-5, share_of=slower("image_encoder.", 0.5))
        nano.train_clips(nano.Run(tmp_path, options, weights=BUNDLED / "nano.safetensors"))
        assert load_model(tmp_path / "nano.safetensors", "cpu").memory_is_trained

    def test_true_masks_fade_from_memories(self) -> None:
        rng = np.random.default_rng(0)
        assert nano.tracking_rules(0.0, 7, rng).truth_in_memory == pytest.approx(0.95)
        assert nano.tracking_rules(1.0, 7, rng).truth_in_memory == pytest.approx(0.05)


class TestEvaluation:
    def test_held_out_clips_have_enough_objects(self) -> None:
        counts, absent = 0, 0
        for clip in held_out_clips(12):
            counts += len(clip.masks)
            absent += sum((~m.any(axis=(1, 2))).any() for m in clip.masks.values())
            assert clip.frames.shape == (16, 256, 256, 3)
        assert counts * 40 / 12 > 100
        assert absent > 3, "some objects disappear"

    def test_a_perfect_tracker_scores_one(self, toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every mask as the truth: then J&F and both recalls are 1."""
        from sam2kit.evaluation import clips as module

        clips = list(held_out_clips(6, side=64, frames=12))
        monkeypatch.setattr(module, "score_clip", lambda _, clip: _perfect(clip))
        scores = evaluate_clips(toy, clips)
        assert scores["mask"] == scores["present_recall"] == scores["absent_recall"] == 1.0
        assert 0 < scores["copied"] < 1

    def test_an_untrained_tracker_does_not(self, toy: SAM2) -> None:
        scores = evaluate_clips(toy, held_out_clips(1, side=64, frames=4))
        assert scores["mask"] < 0.7


def _perfect(clip: object) -> dict:
    from sam2kit.evaluation import clips as module

    scores = [module._score(list(t[1:]), t[1:]) for t in clip.masks.values()]
    return dict.fromkeys(module.PROMPTS, scores)
