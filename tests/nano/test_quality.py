"""The bundled model keeps the quality that its card states, on the first quarter of what the card measures on."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2kit.data.opening import open_dataset
from sam2kit.evaluation.semi_supervised import evaluate_clips
from sam2kit.model.sam2 import SAM2
from sam2kit.nano.held_out import held_out_clips, held_out_pictures, pasted_clips
from sam2kit.nano.measure import picture_figures

pytestmark = pytest.mark.slow

# a little under the measured values, for another machine's rounding; sam2kit/nano/README.md has those of all
LEAST = {
    "scenes": {"objects": 130, "click1": 0.62, "best_of_3": 0.73, "click3": 0.76, "click5": 0.80, "box": 0.74},
    "photos": {"objects": 12, "click1": 0.50, "best_of_3": 0.63, "click3": 0.68, "click5": 0.77, "box": 0.68},
    "clips": {
        "objects": 36, "mask": 0.64, "click": 0.47, "box": 0.61, "present_recall": 0.97, "absent_recall": 0.55,
    },
    "pasted": {"mask": 0.82, "click": 0.62, "box": 0.76, "present_recall": 0.98},
}  # fmt: skip


@pytest.mark.parametrize("kind", LEAST)
def test_on_data_that_it_never_saw(kind: str, nano: SAM2, assets: Path) -> None:
    if kind in ("scenes", "photos"):
        photos = open_dataset(assets / "photos").pictures
        scores = picture_figures(nano, held_out_pictures(40) if kind == "scenes" else [s.read() for s in photos])
    else:
        scores = evaluate_clips(nano, held_out_clips(12) if kind == "clips" else pasted_clips(assets / "photos"))
        assert kind == "pasted" or scores["mask"] > 2 * scores["copied"]
    print(scores)
    for name, least in LEAST[kind].items():
        assert scores[name] >= least, f"{name}: {scores[name]:.3f}"
