"""Runs that are stopped and go on, and what they end with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sam2kit.data.sample import Dataset
from sam2kit.evaluation.reports import ObjectRow
from sam2kit.evaluation.runs import Settings, evaluate_dataset, model_fingerprint, run_samples
from sam2kit.evaluation.semi_supervised import TrackingProtocol
from sam2kit.model.sam2 import SAM2
from sam2kit.processes import Team
from tests.evaluation.samples_in_memory import MemoryClip, moving_square, pictures

SAMPLES = [*pictures(5), MemoryClip("broken", pictures(1)[0].labelled, problem="broken.jpg is cut off")]
IDENTITY = {"model": "m", "protocol": "p"}


class Scorer:
    """Rows without a model; stops like a person who has had enough."""

    def __init__(self, patience: int = 99) -> None:
        self.patience = patience
        self.asked: list[str] = []

    def __call__(self, sample: MemoryClip) -> list[ObjectRow]:
        if len(self.asked) >= self.patience:
            raise KeyboardInterrupt
        self.asked.append(sample.name)
        masks = sample.read().picture_masks
        return [ObjectRow(sample.name, str(i), {"x": m.mean().item()}) for i, m in enumerate(masks)]


WHOLE = run_samples(SAMPLES, Scorer(), IDENTITY)


def test_going_on_equals_one_go(tmp_path: Path) -> None:
    assert [r.sample for r in WHOLE[0]] == [s.name for s in SAMPLES[:5] for _ in range(2)]
    assert WHOLE[1] == {"broken": "broken.jpg is cut off"}
    with pytest.raises(KeyboardInterrupt):
        run_samples(SAMPLES, Scorer(3), IDENTITY, out=tmp_path)
    again = Scorer()
    assert run_samples(SAMPLES, again, IDENTITY, out=tmp_path) == WHOLE
    assert again.asked == ["p3", "p4", "broken"]
    third = Scorer()
    assert run_samples(SAMPLES, third, IDENTITY, out=tmp_path) == WHOLE
    assert third.asked == ["broken"], "it may have been repaired"


def test_a_half_line_is_done_again(tmp_path: Path) -> None:
    run_samples(SAMPLES, Scorer(), IDENTITY, out=tmp_path)
    path = tmp_path / "rows-0.jsonl"
    for cut in (5, 60, 300):
        path.write_bytes(path.read_bytes()[:-cut])
        again = Scorer()
        assert run_samples(SAMPLES, again, IDENTITY, out=tmp_path) == WHOLE
        assert again.asked[-1] == "broken"
    path.write_text(path.read_text().replace('"rows"', "rows"))
    with pytest.raises(ValueError, match="is damaged"):
        run_samples(SAMPLES, Scorer(), IDENTITY, out=tmp_path)


def test_a_team_shares_and_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    second = Scorer()
    assert run_samples(SAMPLES, second, IDENTITY, out=tmp_path, team=Team(1, 3)) is None
    assert second.asked == ["p1", "p4"]
    alone = Scorer()
    assert run_samples(SAMPLES, alone, IDENTITY, out=tmp_path) == WHOLE
    assert alone.asked == ["p0", "p2", "p3", "broken"]


def test_other_results_are_not_mixed(tmp_path: Path) -> None:
    run_samples(SAMPLES, Scorer(), IDENTITY, out=tmp_path)
    with pytest.raises(ValueError, match=r"another run \(other model\)"):
        run_samples(SAMPLES, Scorer(), IDENTITY | {"model": "n"}, out=tmp_path)
    with pytest.raises(ValueError, match=r"another run \(other samples\)"):
        run_samples(SAMPLES[:2], Scorer(), IDENTITY, out=tmp_path)
    with pytest.raises(ValueError, match="--out"):
        run_samples(SAMPLES, Scorer(), IDENTITY, team=Team(0, 2))
    with pytest.raises(ValueError, match=r"no sample could be used; the first: broken\.jpg is cut off"):
        run_samples(SAMPLES[5:], Scorer(), IDENTITY)


def dataset() -> Dataset:
    return Dataset(Path("here"), "in memory", [*SAMPLES[4:], moving_square(4, late=1), moving_square(3, name="other")])


@pytest.mark.parametrize("protocol", ["clicks", "vos", "offline", "online"])
def test_every_protocol(toy: SAM2, protocol: str, tmp_path: Path) -> None:
    settings = Settings(protocol, clicks=2, frames=1, tracking=TrackingProtocol("box"))
    report, before = evaluate_dataset(toy, dataset(), settings, out=tmp_path), model_fingerprint(toy)
    assert {r.sample for r in report.rows} == ({"p4"} if protocol == "clicks" else {"clip", "other"})
    assert report.about["protocol"] == protocol
    assert report == evaluate_dataset(toy, dataset(), settings, out=tmp_path)
    main = json.loads(json.dumps(report.as_dict()))["measures"]["click1" if protocol == "clicks" else "J&F"]
    assert 0 <= main["low"] <= main["mean"] <= main["high"] <= 1
    assert (protocol == "clicks") == ("calibration" in report.details) == bool(report.skipped)
    with torch.no_grad():
        next(toy.parameters()).flatten()[0] += 1e-3
    assert model_fingerprint(toy) != before == report.about["model"]
    with pytest.raises(ValueError, match=r"another run \(other model\)"):
        evaluate_dataset(toy, dataset(), settings, out=tmp_path)


def test_protocols_and_data_that_do_not_fit() -> None:
    pictures_only = Dataset(Path("here"), "in memory", SAMPLES[:1])
    assert Settings().chosen_for(pictures_only) == "clicks"
    assert Settings().chosen_for(Dataset(Path("here"), "in memory", [moving_square()])) == "vos"
    with pytest.raises(ValueError, match="protocol online needs clips, but here has 1 pictures and 0 clips"):
        Settings("online").chosen_for(pictures_only)
    with pytest.raises(ValueError, match="protocol must be one of"):
        Settings("guess")
