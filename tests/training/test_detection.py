"""Models that find objects without a prompt: what they learn and find, how they are kept, and how it is scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2kit.cli import main
from sam2kit.config import SAM2Config
from sam2kit.data.opening import open_dataset
from sam2kit.data.sample import Dataset, LabelledFrames, SampleInMemory
from sam2kit.evaluation.found_objects import average_precision, evaluate_detection, panoptic_quality
from sam2kit.media.mask_files import NamedMask
from sam2kit.model.detection_head import STRIDE, DetectionHead, boxes_of
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import to_detections
from sam2kit.predict.detector import Detector, DetectorOptions, follow_all
from sam2kit.predict.objects import class_of
from sam2kit.predict.video import VideoPredictor
from sam2kit.training import finetune as module
from sam2kit.training.detection import classes_of, targets, train_detection, worth_detecting
from sam2kit.training.finetune import finetune
from sam2kit.weights import load_model, save_model, save_official
from tests.finder import CLASSES, SIZE, drawn, some, trained_finder


@pytest.fixture
def finder() -> SAM2:
    """nano, which has learnt to find discs and squares."""
    return trained_finder()


def test_what_the_head_is_to_answer() -> None:
    masks = np.zeros((2, 64, 64), bool)
    masks[0, 8:40, 8:40] = True  # 4 x 4 places
    masks[1, 50, 60] = True  # a pixel
    depth, sides, weight = targets(masks, [0, 1], 2)
    assert depth.shape == (2, 8, 8)
    assert sides.shape == (4, 8, 8)
    assert depth[0].max() == 1
    assert depth[0].argmax() in (2 * 8 + 2, 2 * 8 + 3, 3 * 8 + 2, 3 * 8 + 3), "deepest in the middle"
    assert depth[0, 0].max() == depth[0, :, 5:].max() == 0
    assert depth[1, 6, 7] == 1, "the smallest thing has a place"
    assert torch.equal(weight, depth.amax(dim=0))
    box = boxes_of(sides, torch.tensor([[2, 2]]))[0] * 64
    assert torch.allclose(box, torch.tensor([8.0, 8, 40, 40]), atol=1e-4)
    assert not targets(np.zeros((1, 64, 64), bool), [0], 1)[0].any()


@pytest.mark.parametrize("takes_detail", [True, False])
def test_the_head_has_a_map_for_each_class(takes_detail: bool) -> None:
    head = DetectionHead(32, 3, takes_detail=takes_detail)
    depth, sides = head(torch.randn(2, 32, 4, 6), torch.randn(2, 8, 8, 12) if takes_detail else None)
    assert depth.shape == (2, 3, 8, 12)
    assert sides.shape == (2, 4, 8, 12)
    assert STRIDE == 8


def test_it_finds_what_it_has_not_seen(finder: SAM2) -> None:
    detector = Detector(finder)
    picture = drawn([("disc", 40, 45), ("square", 112, 60), ("disc", 80, 120)], seed=9)
    found = detector.find(picture.image)
    truth = {number: (masks[0], picture.labels[number]) for number, masks in picture.masks.items()}
    assert len(found) == 3
    for mask, kind in truth.values():
        best = max(found, key=lambda one: (one.mask & mask).sum())
        assert (best.mask & mask).sum() / (best.mask | mask).sum() > 0.75
        assert best.name == kind
        x, y = best.point_xy
        assert mask[int(y), int(x)], "it was clicked on"
        assert best.box_xyxy[0] <= x <= best.box_xyxy[2]
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert [[one.runs for one in two] for two in detector.find_batch([picture.image] * 2)] == [
        [one.runs for one in found]
    ] * 2
    shown = to_detections(found, detector.classes)
    assert list(shown.class_id) == [CLASSES.index(one.name) for one in found]
    assert list(shown.data["class_name"]) == [one.name for one in found]
    assert len(to_detections([], detector.classes)) == 0
    assert not Detector(finder, DetectorOptions(least=1.0)).find(picture.image)
    assert len(Detector(finder, DetectorOptions(most=1)).find(picture.image)) == 1
    assert detector.find(np.full((50, 90, 3), 90, np.uint8)) == []


def test_scores(finder: SAM2) -> None:
    samples = some(4, seed=5)
    asked: list[tuple[int, int]] = []
    report = evaluate_detection(Detector(finder), samples, progress=lambda *done: asked.append(done))
    assert report.totals["detector AP50"] > 0.9
    assert report.totals["detector AP50, mean of classes"] > 0.9
    assert report.totals["detector PQ"] > 0.6
    assert len(report.rows) == sum(len(sample.labelled.masks) for sample in samples)
    assert asked == [(n, 4) for n in range(5)]
    assert len(evaluate_detection(Detector(finder), samples, enough=lambda: True).rows) == len(
        samples[0].labelled.masks
    )
    with pytest.raises(ValueError, match="no picture could be used"):
        evaluate_detection(Detector(finder), [])


def test_ap_and_pq_by_hand() -> None:
    def box(x: int, name: str = "disc", score: float = 1.0, width: int = 10) -> NamedMask:
        mask = np.zeros((20, 100), bool)
        mask[5:15, x : x + width] = True
        return NamedMask.of(name, mask, score)

    truth = [[box(0), box(20), box(40, "square")]]
    assert average_precision(truth, truth) == pytest.approx({"AP": 1, "AP50": 1}, abs=1e-6)
    assert panoptic_quality(truth, truth) == 1
    assert average_precision(truth, [[]]) == {"AP": 0, "AP50": 0}
    assert panoptic_quality(truth, [[]]) == 0
    # of 101 recalls, those up to 1/3 are reached with precision 1
    assert average_precision(truth, [[box(0)]])["AP50"] == pytest.approx(34 / 101, abs=1e-6)
    # a wrong one that is surer halves the precision
    assert average_precision(truth, [[box(80, score=2), box(0)]])["AP50"] == pytest.approx(34 / 101 / 2, abs=1e-6)
    wrong_class = [[box(0), box(20), box(40)]]
    assert average_precision(truth, wrong_class)["AP50"] == pytest.approx(1, abs=1e-6)
    assert average_precision(truth, wrong_class, by_class=True)["AP50"] == pytest.approx(0.5, abs=1e-6)
    # IoU .8 of one, two missed: .8 / (1 + 2 / 2)
    assert panoptic_quality(truth, [[box(0, width=8)]]) == pytest.approx(0.4)
    # and one that is nothing: .8 / (1 + 2 / 2 + 1 / 2)
    assert panoptic_quality(truth, [[box(0, width=8), box(80)]]) == pytest.approx(0.8 / 2.5)


def test_newcomers_in_a_clip_become_objects(finder: SAM2) -> None:
    """A disc all the time, a square from frame 3 on; it is searched for on each second frame."""
    frames = [drawn([("disc", 40 + t, 40)] + [("square", 110, 110)] * (t >= 3), seed=t) for t in range(7)]
    clip = np.concatenate([one.frames for one in frames])
    predictor = VideoPredictor(finder)
    session = predictor.open(clip)
    shown = {m.frame_index: m for m in follow_all(Detector(finder), predictor, session, every=2)}
    assert sorted(shown) == list(range(7))
    assert [item.name for item in session.objects.values()] == ["disc", "square"]
    assert min(session.objects[2].prompts) == 4, "the first frame after it came on which was searched"
    masks = session.masks(6)
    for number in (1, 2):
        truth = frames[6].masks[number][0]
        assert (masks.mask(number) & truth).sum() / (masks.mask(number) | truth).sum() > 0.6
    nothing = predictor.open(np.full((3, 40, 60, 3), 90, np.uint8))
    assert list(follow_all(Detector(finder), predictor, nothing)) == []
    with pytest.raises(ValueError, match="every must be a whole number"):
        next(follow_all(Detector(finder), predictor, nothing, every=0))


def test_kept_and_left_out(finder: SAM2, tmp_path: Path, toy: SAM2) -> None:
    again = load_model(save_model(finder, tmp_path / "finder.safetensors"), "cpu")
    assert again.config.classes == CLASSES
    picture = drawn([("disc", 40, 45)]).image
    runs = [one.runs for one in Detector(finder).find(picture)]
    assert [one.runs for one in Detector(again).find(picture)] == runs
    official = load_model(save_official(finder, tmp_path / "finder.pt"), "cpu")
    assert official.config.classes == (), "other programs know no such head"
    with pytest.raises(ValueError, match="finds nothing by itself"):
        Detector(official)
    assert "classes" not in toy.config.as_dict(), "older versions read it"
    for wrong in (("a", "a"), ("", "b"), (1,), ["a"]):
        with pytest.raises(ValueError, match="classes must be"):
            SAM2Config(classes=wrong)  # type: ignore[arg-type]
    toy.set_classes(("a",))
    toy.set_classes(())
    assert not any(name.startswith("detection_head") for name in toy.state_dict())


def test_when_it_is_worth_it() -> None:
    one = SampleInMemory("one", LabelledFrames.of_picture(drawn([]).image, [np.ones((SIZE, SIZE), bool)]))
    assert not worth_detecting(Dataset(Path(), "test", [one]))
    assert worth_detecting(Dataset(Path(), "test", [one], classes=("cup",)))
    assert worth_detecting(Dataset(Path(), "test", [one, *some(1, seed=0)]))
    assert classes_of([one, *some(3, seed=0)]) == ("disc", "object", "square")
    assert classes_of([one]) == ("object",)
    with pytest.raises(ValueError, match="nothing to learn finding"):
        train_detection(load_model("nano", "cpu"), [SampleInMemory("none", drawn([]))], CLASSES, steps=1)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("coin", "coin"), ("coin (2)", "coin"), ("coin 3", "coin"), ("coin-4", "coin"), ("Object 5", None), ("7", None),
        ("big cup", "big cup"), ("object", None),
    ],
)  # fmt: skip
def test_the_class_that_a_name_tells(name: str, kind: str | None) -> None:
    assert class_of(name) == kind


def test_finetuning_learns_it_and_a_second_one_begins_anew(
    base: Path, split_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LEAST_STEPS", 2)
    monkeypatch.setattr(module, "_DETECTION_STEPS", 3)
    quick = {"epochs": 1, "corrections": 1, "forgetting_check": False, "pictures": 0}
    first = finetune(str(base), split_pictures, "lora", out=tmp_path / "first", callbacks=(), **quick)
    assert set(first.found) == {"detector AP", "detector AP50", "detector PQ", "pictures"}
    assert "Without a click, on 3 held-out pictures" in (tmp_path / "first" / "result.md").read_text()
    assert load_model(first.folder, "cpu").config.classes == ("object",)
    second = finetune(
        first.folder, split_pictures, "decoder", out=tmp_path / "second", callbacks=(), detect=False, **quick
    )
    heads = [load_model(one.folder, "cpu").detection_head.state_dict() for one in (first, second)]
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0]), "its features are the same"
    third = finetune(first.folder, split_pictures, "full", out=tmp_path / "third", callbacks=(), detect=False, **quick)
    assert load_model(third.folder, "cpu").config.classes == (), "it knew other features"
    assert not third.found


def write_photos(folder: Path, count: int) -> Path:
    """Photos in a folder, one of them in a sub-folder."""
    for n, sample in enumerate(some(count, seed=7)):
        path = folder / ("deeper" if n == 1 else "") / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.labelled.image).save(path)
    return folder


@pytest.mark.parametrize("kind", ["coco", "yolo", "masks"])
def test_predict_a_folder(kind: str, finder: SAM2, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, photos = save_model(finder, tmp_path / "finder.safetensors"), write_photos(tmp_path / "photos", 3)
    (photos / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    given = ["predict", str(photos), "--model", str(model), "--out", str(out), "--format", kind]
    assert main(given) == 0
    told = capsys.readouterr()
    assert "3 pictures" in told.out
    assert "skipped: " in told.out
    data = open_dataset(out / kind)
    assert len(data) == 3
    for sample, true in zip(sorted(data.samples, key=lambda s: Path(s.name).stem[-1]), some(3, seed=7), strict=True):
        read = sample.read()
        assert np.array_equal(read.image, true.labelled.image)
        assert len(read.masks) == len(true.labelled.masks)
        if kind != "masks":
            assert sorted(read.labels.values()) == sorted(true.labelled.labels.values())
    (photos / "bad.png").unlink()
    assert main(given) == 0
    assert "found before" in capsys.readouterr().out


def test_an_interrupted_prediction_goes_on(
    finder: SAM2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, photos = save_model(finder, tmp_path / "finder.safetensors"), write_photos(tmp_path / "photos", 3)
    given = ["predict", str(photos), "--model", str(model), "--out", str(tmp_path / "out"), "--json"]
    asked: list[int] = []
    find = Detector.find_batch

    def stopped(self: Detector, pictures: list[np.ndarray]) -> object:
        asked.append(len(pictures))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return find(self, pictures)

    monkeypatch.setattr(Detector, "find_batch", stopped)
    assert main(given) == 130
    file = tmp_path / "out" / "predictions.jsonl"
    assert len(file.read_text().splitlines()) == 2
    assert not (tmp_path / "out" / "coco").exists()
    with file.open("a") as half:
        half.write('{"photo": "1.p')
    capsys.readouterr()
    assert main(given) == 0
    assert asked == [1, 1, 1, 1]
    assert json.loads(capsys.readouterr().out)["photos"] == 3
    assert main([*given, "--least", "0.9"]) == 2
    assert "of another model, --least or --refine" in capsys.readouterr().err
    file.write_text("[]\nnot JSON\n")
    assert main(given) == 2
    assert "is damaged" in capsys.readouterr().err
    assert (
        main(["predict", str(tmp_path / "out" / "nothing"), "--model", str(model), "--out", str(tmp_path / "x")]) == 2
    )
    assert "there is no photo in" in capsys.readouterr().err


def test_evaluate_detect(finder: SAM2, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, photos = save_model(finder, tmp_path / "finder.safetensors"), write_photos(tmp_path / "photos", 2)
    assert main(["predict", str(photos), "--model", str(model), "--out", str(tmp_path / "found")]) == 0
    data = str(tmp_path / "found" / "coco")
    capsys.readouterr()
    assert main(["evaluate", data, "--detect", "--model", str(model), "--json", "--limit", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["detector AP50"] == pytest.approx(1, abs=1e-6), "its own answers are the truth here"
    assert 0 <= told["everything AP50"] <= 1
    assert main(["evaluate", data, "--detect", "--protocol", "clicks"]) == 2
    assert "--detect looks at pictures without prompts" in capsys.readouterr().err
    assert main(["evaluate", data, "--detect"]) == 2
    assert "fine-tune it with detection" in capsys.readouterr().err
