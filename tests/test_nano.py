"""The bundled model keeps the quality that its card states."""

from __future__ import annotations

from pathlib import Path

from sam2kit.model.sam2 import SAM2
from sam2kit.training.evaluate import evaluate_pictures, held_out_pictures, outlined_photos

# a little under the measured values (see sam2kit/bundled/README.md), for another machine's rounding
HELD_OUT = {"click1": 0.62, "best_of_3": 0.71, "click3": 0.76, "click5": 0.79, "box": 0.73}
PHOTOS = {"click1": 0.46, "click3": 0.64, "box": 0.63}


def test_on_held_out_scenes(nano: SAM2) -> None:
    scores = evaluate_pictures(nano, held_out_pictures())
    print(scores)
    assert scores["objects"] >= 500
    for name, least in HELD_OUT.items():
        assert scores[name] >= least, f"{name}: {scores[name]:.3f}"


def test_on_real_photos(nano: SAM2, assets: Path) -> None:
    scores = evaluate_pictures(nano, outlined_photos(assets / "photos"))
    print(scores)
    assert scores["objects"] >= 12
    for name, least in PHOTOS.items():
        assert scores[name] >= least, f"{name}: {scores[name]:.3f}"
