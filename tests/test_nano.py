"""The bundled model keeps the quality that its card states, on the first quarter of what the card measures on."""

from __future__ import annotations

from pathlib import Path

from sam2kit.datasets.opening import open_dataset
from sam2kit.evaluation.clips import evaluate_clips
from sam2kit.evaluation.pictures import evaluate_pictures
from sam2kit.model.sam2 import SAM2
from sam2kit.training.held_out import held_out_clips, held_out_pictures
from sam2kit.training.pasted_clips import pasted_clips

# a little under the measured values, for another machine's rounding; sam2kit/bundled/README.md has those of all
HELD_OUT = {"click1": 0.61, "best_of_3": 0.70, "click3": 0.76, "click5": 0.79, "box": 0.73}
PHOTOS = {"click1": 0.44, "click3": 0.64, "box": 0.63}
CLIPS = {"mask": 0.68, "click": 0.51, "box": 0.65, "present_recall": 0.96, "absent_recall": 0.60}
PASTED = {"mask": 0.73, "click": 0.65, "box": 0.71, "present_recall": 0.98}


def test_on_held_out_scenes(nano: SAM2) -> None:
    scores = evaluate_pictures(nano, held_out_pictures(40))
    print(scores)
    assert scores["objects"] >= 130
    for name, least in HELD_OUT.items():
        assert scores[name] >= least, f"{name}: {scores[name]:.3f}"


def test_on_real_photos(nano: SAM2, assets: Path) -> None:
    scores = evaluate_pictures(nano, [s.read() for s in open_dataset(assets / "photos").pictures])
    print(scores)
    assert scores["objects"] >= 12
    for name, least in PHOTOS.items():
        assert scores[name] >= least, f"{name}: {scores[name]:.3f}"


def test_on_held_out_clips(nano: SAM2) -> None:
    scores = evaluate_clips(nano, held_out_clips(12))
    print(scores)
    assert scores["objects"] >= 36
    for name, least in CLIPS.items():
        assert scores[name] >= least, f"{name}: {scores[name]:.3f}"
    assert scores["mask"] > 2 * scores["copied"]


def test_on_clips_of_real_pixels(nano: SAM2, assets: Path) -> None:
    scores = evaluate_clips(nano, pasted_clips(assets / "photos"))
    print(scores)
    for name, least in PASTED.items():
        assert scores[name] >= least, f"{name}: {scores[name]:.3f}"
