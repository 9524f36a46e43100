"""Teaching as a series of events: datasets that are read as they were written, runs that end, results that load."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2kit.datasets.mask_writing import write_labelled
from sam2kit.datasets.opening import open_dataset
from sam2kit.media.bundles import FileBundle
from sam2kit.media.exports import NamedMask
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.teaching import DONE, FAILED, LOADING, PHASES, STOPPED, TeachPlan, comparisons, train_events, zip_taught
from sam2kit.training import finetune
from sam2kit.weights import load_model, save_model


def square(y: int, x: int, side: int = 16) -> np.ndarray:
    mask = np.zeros((48, 64), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def write(path: Path, pictures: dict[str, list[np.ndarray]], *, lossy: bool = False) -> Path:
    """Pictures whose objects are bright; those whose name begins with v are in val."""
    with FileBundle(path) as bundle:
        for stem, masks in pictures.items():
            image = np.random.default_rng(len(stem)).integers(0, 60, (*masks[0].shape, 3), np.uint8)
            image[np.any(masks, axis=0)] += 150
            objects = [NamedMask.of(f"Object {n}", mask) for n, mask in enumerate(masks)]
            write_labelled(bundle, "val" if stem[0] == "v" else "train", stem, image, objects, lossy=lossy)
    return path


class TestWriting:
    def test_masks_are_read_as_they_were_written(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        few = np.zeros((100, 90), int)  # 80 numbers on little ground, which might pass for shades of grey
        for n in range(80):
            few[n : n + 2, (n * 7) % 80] = n + 1
        many = rng.permutation(40 * 60).reshape(40, 60)  # pixels that are objects of their own
        pictures = {
            "one": [square(3, 4)],
            "one_mask": [square(3, 4), square(30, 40)],
            "one-2": [square(3, 4), square(10, 10)],  # overlap
            "7": [square(1, 1), square(20, 30, 5)],
            "few": [few == n for n in range(1, 81) if (few == n).any()],
            "v_many": [many == n for n in range(300)],
            "vieux Été": [square(3, 4), square(3, 4)],  # the same twice
        }
        data = open_dataset(write(tmp_path / "data", pictures))
        assert not data.skipped
        assert {s.name.split("/")[-1].split(".")[0]: s.split for s in data.pictures} == {
            stem: "val" if stem[0] == "v" else "train" for stem in pictures
        }
        for sample in data.pictures:
            masks = pictures[Path(sample.name).stem]
            found = sample.read()
            assert len(found.masks) == len(masks)
            assert all(np.array_equal(a, b) for a, b in zip(found.masks, masks, strict=True))
            assert found.image[masks[0]].mean() > 120

    def test_pictures_are_exact_or_jpeg(self, tmp_path: Path) -> None:
        for lossy, suffix in ((False, ".png"), (True, ".jpg")):
            sample = open_dataset(write(tmp_path / suffix[1:], {"a": [square(3, 4)]}, lossy=lossy)).pictures[0]
            assert Path(sample.name).suffix == suffix
            assert np.array_equal(sample.read().masks[0], square(3, 4))
            error = np.abs(sample.read().image.astype(int) - _image("a", square(3, 4)))
            assert error.max() == 0 if not lossy else error.mean() < 12

    def test_empty_masks(self, tmp_path: Path) -> None:
        nothing = np.zeros((48, 64), bool)
        data = open_dataset(write(tmp_path / "data", {"a": [nothing, square(3, 4)]}))
        assert len(data.pictures[0].read().masks) == 1
        with pytest.raises(ValueError, match="b has no object that covers anything"):
            write(tmp_path / "none", {"a": [square(3, 4)], "b": [nothing]})
        assert not list(tmp_path.glob("none*")), "complete or not at all"


def _image(stem: str, mask: np.ndarray) -> np.ndarray:
    image = np.random.default_rng(len(stem)).integers(0, 60, (*mask.shape, 3), np.uint8)
    image[mask] += 150
    return image


@pytest.fixture
def plan(tmp_path: Path, toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> TeachPlan:
    """A toy model, four photos with squares, and a second or two."""
    monkeypatch.setattr(finetune, "_LEAST_STEPS", 4)
    base = save_model(toy, tmp_path / "base.safetensors")
    names = ("a", "bb", "ccc", "vvvv")
    data = write(tmp_path / "data-1", {n: [square(4 * i, 6 * i), square(25, 40)] for i, n in enumerate(names)})
    return TeachPlan(str(base), data, tmp_path / "mine-1", "decoder", 0.1, "cpu")


class TestRuns:
    def test_from_beginning_to_end(self, plan: TeachPlan) -> None:
        events = list(train_events(pickle.loads(pickle.dumps(plan))))
        assert pickle.loads(pickle.dumps(events)) == events
        phases = [event["phase"] for event in events]
        assert phases[0] == LOADING
        assert phases[-1] == DONE
        assert list(dict.fromkeys(phases)) == [p for p in PHASES if p in phases], "each phase in its order"
        assert events[-1]["after"]["click1"] >= 0
        base, taught = load_model(plan.base, "cpu").state_dict(), load_model(plan.out, "cpu").state_dict()
        changed = {name.split(".")[0] for name in base if not torch.equal(base[name], taught[name])}
        assert changed <= {"sam_mask_decoder", "sam_prompt_encoder"}
        assert changed
        assert not (plan.out / "checkpoint.pt").exists()
        assert str(plan.out.parent) not in (plan.out / "result.md").read_text()

    def test_a_file_stops_it(self, plan: TeachPlan) -> None:
        last = {}
        for last in train_events(replace(plan, minutes=10)):
            if last.get("step") == 6:
                plan.stop_file.touch()
        assert last["phase"] == STOPPED
        assert last["epochs"] == 1
        assert load_model(plan.out, "cpu") is not None
        assert "| click1 |" in (plan.out / "result.md").read_text()

    def test_stopped_before_anything_was_learnt(self, plan: TeachPlan) -> None:
        plan.stop_file.touch()
        assert list(train_events(plan))[-1] == {"phase": STOPPED}

    @pytest.mark.filterwarnings("ignore:.*the sample is left out")
    def test_it_ends_with_its_data(self, plan: TeachPlan) -> None:
        """The visitor's folder was deleted, and the stop file with it."""
        last = {}
        for last in train_events(replace(plan, minutes=10)):
            if last.get("step") == 2:
                shutil.rmtree(plan.data)
        assert last["phase"] in (STOPPED, FAILED)

    def test_whoever_looks_away_ends_it(self, plan: TeachPlan) -> None:
        with closing(train_events(replace(plan, minutes=10))) as events:
            assert next(event for event in events if event.get("step") == 5)
        lines = (plan.out / "log.jsonl").read_text().splitlines()
        assert len(lines) <= 8

    def test_two_at_once_take_turns(self, plan: TeachPlan) -> None:
        other = replace(plan, out=plan.out.with_name("mine-2"))
        first, second = train_events(replace(plan, minutes=10)), train_events(other)
        with closing(first), closing(second):
            assert next(first)["phase"] == LOADING
            assert next(second)["phase"] == "waiting"
            plan.stop_file.touch()
            assert list(first)[-1]["phase"] == STOPPED
            assert list(second)[-1]["phase"] == DONE

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"base": "no-such-model"}, "unknown model 'no-such-model'"),
            ({"recipe": "memory"}, "memory recipe needs clips"),
            ({"minutes": 1e-5}, "give more minutes"),
        ],
    )
    def test_what_goes_wrong_is_a_sentence(self, plan: TeachPlan, change: dict, said: str) -> None:
        last = list(train_events(replace(plan, **change)))[-1]
        assert last["phase"] == FAILED
        assert said in last["error"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("MPS backend out of memory")])
def test_a_full_device_is_a_sentence(plan: TeachPlan, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(finetune, "finetune", full)
    last = list(train_events(plan))[-1]
    assert last == {"phase": FAILED, "error": "the device has no memory left for training; take a smaller model"}


def test_comparisons_are_on_the_held_out_photos(plan: TeachPlan, nano: SAM2, toy: SAM2) -> None:
    (compared,) = comparisons(plan.data, ImagePredictor(toy), ImagePredictor(nano))
    assert compared.name == "vvvv.png"
    assert len(compared.after) == 2
    assert 0 <= compared.mean_before <= 1


def test_taught_again_and_taken_elsewhere(plan: TeachPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path as the base, a taught model as the base of another, and a zip that brings both."""
    monkeypatch.chdir(tmp_path)
    relative = replace(plan, base=os.path.relpath(plan.base))
    assert list(train_events(relative))[-1]["phase"] == DONE
    again = replace(plan, base=str(plan.out), out=plan.out.with_name("mine-2"))
    assert list(train_events(again))[-1]["phase"] == DONE
    whole = load_model(again.out, "cpu").state_dict()
    archive = zipfile.ZipFile(zip_taught(again.out, tmp_path / "mine-2.zip"))
    files = {"finetuned.json", "finetuned.safetensors", "curves.png", "history.json", "result.md"}
    assert set(archive.namelist()) == {f"{run}/{file}" for run in ("mine-1", "mine-2") for file in files}
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


def test_nothing_is_zipped_by_halves(tmp_path: Path) -> None:
    (tmp_path / "mine-1").mkdir()
    with pytest.raises(ValueError, match="holds no fine-tuning"):
        zip_taught(tmp_path / "mine-1", tmp_path / "mine-1.zip")
    assert not list(tmp_path.glob("*.zip"))
