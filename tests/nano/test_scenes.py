"""What nano is trained on: painted and real pictures and clips, their streams, and the recipe at toy size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as run_lengths

from sam2kit.nano import measure
from sam2kit.nano import recipe as nano
from sam2kit.nano.appearance import TextureBank
from sam2kit.nano.held_out import (
    held_out_clips,
    held_out_photos,
    held_out_pictures,
    held_out_real_clips,
    pasted_clips,
    write_examples,
)
from sam2kit.nano.moving_scenes import random_clip
from sam2kit.nano.real_pixels import RealPixels, read_photo_sets, read_turntables
from sam2kit.nano.scenes import draw_targets, random_collage, random_scene
from sam2kit.nano.streams import ClipStream, PictureStream, augment, photo_view
from sam2kit.training.trainer import LoopOptions
from sam2kit.weights import BUNDLED, load_model


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return TextureBank(3, count=12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two sets of eleven photographs each, of a red disc and a blue square on grey; and twelve turntables."""
    photos, turntables = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("turntables")
    for name in ("cats", "gravel"):
        (photos / name).mkdir()
        content: dict = {"images": [], "annotations": []}
        for i in range(11):
            image = np.full((90, 120, 3), 40 + 10 * i, np.uint8)
            cv2.circle(image, (30 + 2 * i, 40), 22, (200, 20, 20), -1)
            image[50:85, 80:115] = (20, 20, 200)
            Image.fromarray(image).save(photos / name / f"{i}.png")
            content["images"].append({"id": i, "file_name": f"{i}.png", "width": 120, "height": 90})
            for category, mask in enumerate((image[..., 0] == 200, image[..., 2] == 200)):
                counts = run_lengths.encode(np.asfortranarray(mask.astype(np.uint8)))
                segmentation = {"size": counts["size"], "counts": counts["counts"].decode()}
                content["annotations"].append({"image_id": i, "category_id": category, "segmentation": segmentation})
        (photos / name / "annotations.json").write_text(json.dumps(content))
    for i in range(12):
        strip = np.zeros((16, 24 * 16, 4), np.uint8)
        strip[4:12] = (20, 10 * i, 20, 255)
        Image.fromarray(strip).save(turntables / f"{i:02d}.webp", lossless=True)
    return photos, turntables


@pytest.fixture
def real(folders: tuple[Path, Path]) -> RealPixels:
    return RealPixels(*folders)


class TestRealPixels:
    def test_a_tenth_is_held_out(self, folders: tuple[Path, Path]) -> None:
        for held_out, photos, objects in ((False, 9, 11), (True, 2, 1)):
            sets = read_photo_sets(folders[0], held_out=held_out)
            assert {name: len(found) for name, found in sets.items()} == {"cats": photos, "gravel": photos}
            assert len(read_turntables(folders[1], held_out=held_out)) == objects
        for reader in (read_photo_sets, read_turntables):
            with pytest.raises(FileNotFoundError, match="give the folder with"):
                reader(folders[0] / "cats")

    def test_masks_lie_on_what_they_show(self, real: RealPixels) -> None:
        for seed in range(8):
            photo, pixels = real.photo(np.random.default_rng(seed))
            assert np.array_equal(photo.mask(0), pixels[..., 0] == 200)
            assert sorted(photo.drawn(np.random.default_rng(seed), 9)) == [0, 1]
            image, masks = photo_view(np.random.default_rng(seed), real, 64, 2)
            for mask in masks:
                inside = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
                assert not inside.any() or image[inside].std(axis=0).max() < 40, "one colour each"

    def test_cut_outs_hold_nothing_of_what_lay_behind(self, real: RealPixels) -> None:
        kinds = {len(views): views for views in (real.cut_out(np.random.default_rng(seed)) for seed in range(12))}
        assert sorted(kinds) == [1, 24]
        view = kinds[1][0]
        assert np.ptp(view[view[..., 3] > 200][:, :3], axis=0).max() == 0

    def test_collages(self, real: RealPixels, bank: TextureBank) -> None:
        scene, again = (random_collage(np.random.default_rng(3), bank, real, 96) for _ in range(2))
        assert np.array_equal(scene.image, again.image)
        assert all(scene.mask(t).any() for t in scene.visible_targets())

    def test_held_out_ones_are_always_the_same(self, folders: tuple[Path, Path]) -> None:
        found = list(held_out_photos(folders[0], per_picture=1))
        assert [name for name, _ in found] == ["cats", "cats", "gravel", "gravel"]
        assert all(len(picture.picture_masks) == 1 for _, picture in found)
        one, two = (list(held_out_real_clips(*folders, objects=3, side=64, frames=4)) for _ in range(2))
        assert sum(len(clip.masks) for clip in one) == 3
        assert all(np.array_equal(a.frames, b.frames) for a, b in zip(one, two, strict=True))


class TestScenes:
    def test_masks_are_exact_and_follow_from_the_seed(self, bank: TextureBank) -> None:
        for seed in range(6):
            scene, again = (random_scene(np.random.default_rng(seed), bank, 96) for _ in range(2))
            assert np.array_equal(scene.image, again.image) and np.array_equal(scene.leaves, again.leaves)
            assert (scene.image.shape, scene.image.dtype) == ((96, 96, 3), np.uint8)
            covered = sum(scene.mask(t).astype(int) for t in range(len(scene.targets)) if len(scene.targets[t]) == 1)
            assert covered.max() <= 1, "a pixel has one leaf"
            visible = scene.visible_targets()
            assert all(scene.mask(t).any() for t in visible)
            assert set(draw_targets(np.random.default_rng(0), scene, len(visible) + 2)) == set(visible)

    def test_masks_turn_with_the_picture(self, bank: TextureBank) -> None:
        scene = random_scene(np.random.default_rng(0), bank, 96)
        target = scene.visible_targets()[0]
        scene.image[:] = 255 * scene.mask(target)[..., None]
        for seed in range(6):
            view = augment(np.random.default_rng(seed), scene, 64)
            inside = view.mask(target)
            if inside.sum() > 50 and (~inside).sum() > 50:
                grey = view.image.mean(axis=2)
                assert abs(grey[inside].mean() - grey[~inside].mean()) > 60


class TestClips:
    @pytest.mark.slow
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

    def test_real_pixels(self, assets: Path, tmp_path: Path) -> None:
        clips = list(pasted_clips(assets / "photos", frames=9, size_hw=(60, 80)))
        assert [len(c.masks) for c in clips] == [2, 1, 2]
        growing, hidden, leaving = (c.masks[1].reshape(9, -1).sum(axis=1) for c in clips)
        assert growing[-1] > 2 * growing[0]
        assert hidden.min() < 0.8 * hidden[0]
        assert leaving.min() == 0 < leaving[-1]
        made = write_examples(assets / "photos", tmp_path, frames=2)
        assert sorted(p.name for p in made) == sorted(p.name for p in (assets / "clips").glob("*.mp4"))


@pytest.mark.slow
def test_a_step_sees_the_same_batch_again(real: RealPixels) -> None:
    options = {"side": 64, "pictures": 2, "objects": 2}
    first, again = (PictureStream(1, window=4, real=real).batch(7, **options) for _ in range(2))
    other = PictureStream(1, window=4, rank=1, real=real).batch(7, **options)
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.pixels, other.pixels)
    one, two = (ClipStream(4, window=3, real=real).batch(2, side=64, clips=2, frames=4, objects=2) for _ in range(2))
    assert torch.equal(one.pixels, two.pixels)
    assert one.masks.shape == (4, 2, 2, 64, 64)
    assert one.masks[0].flatten(2).any(dim=2).all(), "all are visible on the first frame"


@pytest.mark.slow
def test_the_pixels_that_nano_was_trained_on_do_not_change() -> None:
    """Means of a held-out scene and clip and their masks, painted by the code that the bundled weights come from."""
    picture, clip = next(held_out_pictures(1, side=64)), next(held_out_clips(1, side=64, frames=4))
    means = [float(pixels.mean()) for pixels in (picture.image, clip.frames, *picture.masks.values())]
    assert means == pytest.approx([154.92163, 91.09827, 0.08765, 0.0144, 0.00977, 0.01392], rel=1e-3)


@pytest.mark.slow
def test_pictures_and_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on from the bundled weights, and leaves a model that loads."""
    monkeypatch.setattr(nano, "picture_figures", lambda model, pictures: {"click1": 0.0})
    monkeypatch.setattr(nano, "_PICTURES_AT", dict.fromkeys(nano._PICTURES_AT, (1, 1)))
    monkeypatch.setattr(nano, "_CLIPS_AT", dict.fromkeys(nano._CLIPS_AT, (1, 4, 1)))
    phases = [replace(phase, clips=0.5) for phase in nano._PHASES if phase.clip_sides]
    monkeypatch.setattr(nano, "_PHASES", phases)
    run = nano.Run(tmp_path, LoopOptions(steps=6, learning_rate=1e-5, log_every=1))
    trained = nano.train(run)
    loaded = load_model(tmp_path / "nano.safetensors", "cpu")
    assert loaded.config == trained.config
    assert loaded.memory_is_trained
    torch.testing.assert_close(
        loaded.no_mem_embed, load_model(BUNDLED / "nano.safetensors").no_mem_embed, atol=1e-3, rtol=0
    )
    log = (tmp_path / "log.jsonl").read_text()
    assert "click1" in log and "tracked_iou" in log
    assert nano.train(run).no_mem_embed.equal(trained.no_mem_embed), "the budget is used up"


def test_figures_become_tables() -> None:
    figures = dict.fromkeys(measure.PICTURE_FIGURES, 0.25) | {"objects": 3.0}
    lines = measure.table(measure.PICTURE_FIGURES, {"these": figures}).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[-1].startswith("| these | 3 | 0.25 |")


def test_it_gets_harder() -> None:
    rng = np.random.default_rng(0)
    most = [max(p.corrections[0][1] for _ in range(50) for p in nano.picture_plans(at, 1, rng)) for at in (0.05, 1.0)]
    assert most == [0, 4]
    assert [nano.loss_weights_at(at).focal for at in (0.0, 1.0)] == [0, 8]
    truth = [nano.tracking_options(at, 7, rng).truth_in_memory for at in (0.0, 1.0)]
    assert truth == pytest.approx([0.95, 0.05])
