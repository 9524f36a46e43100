"""A visitor's work in the Teach tab, from photos to a model, without a page."""

from __future__ import annotations

import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sam2kit.datasets.opening import open_dataset
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.teaching import DONE, STOPPED, TeachPlan
from sam2kit.training import finetune
from sam2kit.ui.limits import Limits
from sam2kit.ui.teach_run import LossCurve, TeachRun
from sam2kit.ui.teach_work import TeachWork
from sam2kit.weights import load_model, save_model

LIMITS = Limits(photos=8)
MIDDLES = ((28, 30), (70, 90))  # (y, x) of a disc and a square


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Five photos of a disc and a square."""
    ys, xs = np.mgrid[:96, :128]
    made = []
    for number in range(5):
        image = np.full((96, 128, 3), 50 + 10 * number, np.uint8)
        (disc_y, disc_x), (y, x) = MIDDLES
        image[(ys - disc_y) ** 2 + (xs - disc_x) ** 2 < 18**2] = (220, 60, 40 + 20 * number)
        image[(abs(ys - y) < 18) & (abs(xs - x) < 18)] = (40, 200, 90)
        made.append(tmp_path / f"photo {number}.png")
        Image.fromarray(image).save(made[-1])
    return made


@pytest.fixture
def predictor(nano: SAM2) -> ImagePredictor:
    return ImagePredictor(nano)


@pytest.fixture
def work(paths: list[Path]) -> Iterator[TeachWork]:
    work = TeachWork()
    work.add_photos(paths, LIMITS)
    yield work
    work.close()


def label(work: TeachWork, predictor: ImagePredictor, *numbers: int) -> None:
    """Click both things in photos."""
    for number in numbers:
        work.show(number)
        work.encode(predictor)
        for y, x in MIDDLES:
            work.photo.new_object()
            work.photo.click(predictor, (x, y), positive=True)


def network(name: str, model: SAM2) -> SimpleNamespace:
    """As much of a Network as a training needs."""
    return SimpleNamespace(name=name, images=ImagePredictor(model))


@pytest.fixture
def small(tmp_path: Path, toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A network that learns in no time."""
    monkeypatch.setattr(finetune, "_LEAST_STEPS", 4)
    return network(str(save_model(toy, tmp_path / "toy.safetensors")), toy)


class TestPhotos:
    def test_names_differ(self, work: TeachWork, paths: list[Path], tmp_path: Path) -> None:
        for name in ("photo 0.jpg", "PHOTO_0.png", "../ß §.png"):
            other = tmp_path / "more" / name
            other.parent.mkdir(exist_ok=True)
            Image.open(paths[0]).save(other)
            work.add_photos([other], LIMITS)
        names = [photo.file_name for photo in work.photos]
        assert names[:2] == ["photo_0.png", "photo_1.png"]
        assert names[5:] == ["photo_0-2.jpg", "PHOTO_0-3.png", "ß.png"]
        assert work.current == 7
        with pytest.raises(ValueError, match="this app takes 8 photos"):
            work.add_photos(paths, LIMITS)

    def test_what_cannot_be_used_is_named(self, work: TeachWork, tmp_path: Path) -> None:
        (tmp_path / "broken.png").write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"broken\.png"):
            work.add_photos([tmp_path / "broken.png"], LIMITS)
        with pytest.raises(ValueError, match="no such photo"):
            work.show(5)
        assert len(work.photos) == 5

    def test_large_ones_are_made_smaller(self, tmp_path: Path) -> None:
        Image.new("RGB", (3000, 2000)).save(tmp_path / "large.png")
        work = TeachWork()
        work.add_photos([tmp_path / "large.png"], LIMITS)
        height, width = work.photo.image.shape[:2]
        assert 3.9e6 < height * width <= 4.01e6
        assert width / height == pytest.approx(1.5, rel=1e-3)

    def test_only_the_latest_embeddings_are_kept(self, work: TeachWork, predictor: ImagePredictor) -> None:
        for number in (0, 1, 2, 3, 1):
            work.show(number)
            work.encode(predictor)
        assert [photo.embedding is not None for photo in work.photos] == [False, True, True, True, False]

    def test_removing(self, work: TeachWork) -> None:
        work.show(3)
        work.remove_photo(1)
        assert (work.current, work.photo.file_name) == (2, "photo_3.png")
        for _ in range(4):
            work.remove_photo(0)
        assert work.current == 0
        assert work.ready().startswith("Label at least 2 photos")

    def test_thumbnails_show_the_masks(self, work: TeachWork, predictor: ImagePredictor) -> None:
        before = work.thumbnail(0)
        assert before.startswith("data:image/jpeg")
        assert work.thumbnail(0) is before
        label(work, predictor, 0)
        assert work.thumbnail(0) != before


class TestParts:
    def test_a_quarter_is_kept_aside(self, work: TeachWork, predictor: ImagePredictor) -> None:
        assert work.ready() == "Label at least 2 photos: 0 of 5 has objects so far."
        label(work, predictor, 0)
        assert work.test_photos() == []
        assert "1 of 5" in work.ready()
        label(work, predictor, 1, 3)
        assert work.test_photos() == [1]
        assert work.ready() is None
        assert work.says() == (
            "Ready to train: 2 photos to train on, 1 held out for evaluation. 2 without objects are not used."
        )

    def test_visitors_may_choose(self, work: TeachWork, predictor: ImagePredictor) -> None:
        label(work, predictor, 0, 1, 2)
        work.keep_aside(2, True)
        assert work.test_photos() == [2]
        work.keep_aside(1, True)
        assert work.test_photos() == [1, 2]
        work.keep_aside(0, True)
        assert "label another one to train on" in work.ready()
        for number in range(3):
            work.keep_aside(number, False)
        assert "No photo is left for evaluation" in work.ready()

    def test_parts_stay_from_the_first_training_on(
        self, work: TeachWork, predictor: ImagePredictor, small: SimpleNamespace
    ) -> None:
        label(work, predictor, 0, 2, 3)
        assert work.test_photos() == [2]
        run = work.start(small, "decoder", 1e-5)
        assert run.finished.wait(30)
        assert run.folder is None
        assert "give more minutes" in run.says()
        label(work, predictor, 4, 1)
        work.remove_photo(0)
        assert work.test_photos() == [1], "the same photo, not one that was learnt from"
        work.remove_photo(1)
        assert work.test_photos() == [2], "one of the new ones"


def test_a_training_runs_where_the_network_is(
    work: TeachWork, predictor: ImagePredictor, small: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the second GPU, if it is there."""
    label(work, predictor, 0, 1)
    monkeypatch.setattr(SAM2, "device", torch.device("cuda", 1))
    plans: list[TeachPlan] = []
    for device in (None, "cpu"):
        run = work.start(small, "decoder", 1, device=device, events=lambda plan: iter(plans.append(plan) or ()))
        assert run.finished.wait(30)
    assert [plan.device for plan in plans] == ["cuda:1", "cpu"]


class TestData:
    def test_masks_are_those_that_were_labelled(
        self, work: TeachWork, predictor: ImagePredictor, tmp_path: Path
    ) -> None:
        label(work, predictor, 0, 1, 4)
        data = open_dataset(work.write_dataset(tmp_path / "data"))
        assert {sample.name for sample in data.pictures} == {
            "train/images/photo_0.png", "val/images/photo_1.png", "train/images/photo_4.png"
        }  # fmt: skip
        for sample in data.pictures:
            photo = next(p for p in work.photos if p.file_name == Path(sample.name).name)
            read = sample.read()
            assert np.array_equal(read.image, photo.image)
            masks = [item.mask for item in photo.finished()]
            assert len(masks) == len(read.masks) == 2
            assert all(np.array_equal(a, b) for a, b in zip(masks, read.masks, strict=True))

    def test_as_a_zip(self, work: TeachWork, predictor: ImagePredictor, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no photo has objects yet"):
            work.dataset_zip()
        label(work, predictor, 0, 1)
        for _ in range(2):  # the second replaces the first
            zipfile.ZipFile(work.dataset_zip()).extractall(tmp_path / "data")
        assert len(open_dataset(tmp_path / "data").pictures) == 2
        assert [p.name for p in work.folder.iterdir()] == ["labelled-photos.zip"]


class TestTraining:
    def test_nano_learns_and_the_result_is_used(self, work: TeachWork, predictor: ImagePredictor) -> None:
        label(work, predictor, 0, 1, 2, 3)
        run = work.start(network("nano", predictor.model), "decoder", 0.08)
        assert work.run is run
        with pytest.raises(ValueError, match="stop it first"):
            work.start(network("nano", predictor.model), "decoder", 1)
        said = []
        while not run.finished.wait(0.05):
            said.append(run.says())
        assert work.run is None
        assert (run.phase, run.error, run.progress) == (DONE, None, 1.0)
        assert any(sentence.startswith("Evaluating the model as it is: photo 1 of 1") for sentence in said)
        assert any(sentence.startswith("Training: step ") for sentence in said)
        assert run.says().startswith("Done: 0.")
        measures = {row["measure"] for row in run.curve()}
        assert measures == {"loss", "1 click", "3 clicks", "box"}
        assert all(0 <= row["value"] <= 1 for row in run.curve())
        taught = load_model(work.taught["mine-1"], "cpu")
        old, new = predictor.model.state_dict(), taught.state_dict()
        assert any(not torch.equal(old[name], new[name]) for name in old)
        (compared,) = work.comparisons(predictor, ImagePredictor(taught))
        assert compared.name == "photo_2.png"
        assert compared.mean_before == pytest.approx(run.before["click1"], abs=1e-6)
        assert compared.mean_after == pytest.approx(run.after["click1"], abs=1e-6)
        names = zipfile.ZipFile(work.result_zip()).namelist()
        assert sorted(names) == [
            f"mine-1/{n}"
            for n in ("curves.png", "finetuned.json", "finetuned.safetensors", "history.json", "result.md")
        ]

    def test_stopped_runs_keep_the_best_and_later_ones_get_folders_of_their_own(
        self, work: TeachWork, predictor: ImagePredictor, small: SimpleNamespace
    ) -> None:
        label(work, predictor, 0, 1)
        run = work.start(small, "decoder", 10)
        while len([row for row in run.curve() if row["measure"] == "box"]) < 2 and not run.finished.is_set():
            time.sleep(0.02)
        run.stop()
        assert run.finished.wait(30)
        assert run.phase == STOPPED
        assert run.says().startswith("Stopped after ")
        again = work.start(network("mine-1", small.images.model), "decoder", 0.03)
        assert again.plan.base == str(run.folder), "a taught model can be taught more"
        assert again.finished.wait(60)
        assert list(work.taught) == ["mine-1", "mine-2"]
        assert load_model(work.taught["mine-2"], "cpu") is not None

    def test_closing_stops_and_deletes(
        self, work: TeachWork, predictor: ImagePredictor, small: SimpleNamespace
    ) -> None:
        label(work, predictor, 0, 1)
        run, folder = work.start(small, "decoder", 10), work.folder
        while not any(row["measure"] == "loss" for row in run.curve()):
            time.sleep(0.02)
        work.close()
        assert run.finished.wait(30)
        deadline = time.monotonic() + 10
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not folder.exists()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("teach")]
        work.close()

    def test_nothing_was_taught_yet(self, work: TeachWork, predictor: ImagePredictor) -> None:
        with pytest.raises(ValueError, match="no fine-tuned model yet"):
            work.result_zip()
        with pytest.raises(ValueError, match="no fine-tuned model yet"):
            work.comparisons(predictor, predictor)


class TestRunElsewhere:
    """Events that come from another process, or do not come any more."""

    @pytest.fixture
    def plan(self, tmp_path: Path) -> TeachPlan:
        return TeachPlan("nano", tmp_path, tmp_path / "mine-1")

    def test_a_gpu_that_is_not_lent(self, plan: TeachPlan) -> None:
        def events(plan: TeachPlan) -> Iterator[dict]:
            yield {"phase": "loading"}
            raise RuntimeError("no GPU is free")

        run = TeachRun("mine-1", plan, events).start()
        assert run.finished.wait(10)
        assert run.folder is None
        assert run.says() == "Training failed: no GPU is free."

    def test_a_time_that_is_over(self, plan: TeachPlan) -> None:
        """The other process was ended without a word."""

        def events(plan: TeachPlan) -> Iterator[dict]:
            yield {"phase": "loading"}

        run = TeachRun("mine-1", plan, events).start()
        assert run.finished.wait(10)
        assert run.phase == STOPPED
        assert "nothing was kept" in run.says()


def test_a_long_curve_is_thinned() -> None:
    curve = LossCurve()
    for n in range(10_000):
        curve.add(n / 100, 1 + n % 2)
    points = curve.points()
    assert 100 <= len(points) < 200
    assert all(loss == pytest.approx(1.5) for _, loss in points)
    assert [at for at, _ in points] == sorted(at for at, _ in points)
