"""Evaluating a fine-tuned model on what it was trained on is noticed and said, wherever data and model come from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2kit.cli import main
from sam2kit.data.opening import open_dataset
from sam2kit.data.sample import Dataset, LabelledFrames, SampleInMemory
from sam2kit.data.splitting import content_keys
from sam2kit.evaluation.reports import markdown
from sam2kit.evaluation.runs import Settings, evaluate_dataset, samples_to_score
from sam2kit.finetuned import FineTuning, save_finetuned
from sam2kit.model.sam2 import SAM2
from sam2kit.weights import load_model, save_model, save_official, save_transformers
from tests.finetuned_maker import edit_json, moved
from tests.training.conftest import write_pictures

TRAINED, CHOSEN, NEW = ["0.png", "1.png"], ["2.png"], ["3.png", "4.png"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Five pictures with a bright square each."""
    return write_pictures(tmp_path / "data", [""] * 5, lambda number: 1)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three clips that begin with the same frame."""
    for number in range(3):
        for t in range(4):
            mask = np.zeros((48, 64), np.uint8)
            mask[10:30, 10 + t * number : 30 + t * number] = 1
            for part, array, end in (("JPEGImages", 60 + 150 * mask, "jpg"), ("Annotations", mask, "png")):
                path = tmp_path / "clips" / part / f"c{number}" / f"{t:05d}.{end}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(path)
    return tmp_path / "clips"


def keys_of(data: Path, names: list[str]) -> list[str]:
    return content_keys([s for s in open_dataset(data).samples if Path(s.name).name in names])


@pytest.fixture
def mine(tmp_path: Path, toy: SAM2, pictures: Path) -> Path:
    """A model trained on two of the pictures, its epoch chosen on the third."""
    base = save_model(toy, tmp_path / "toy.safetensors")
    seen = {"training": keys_of(pictures, TRAINED), "validation": keys_of(pictures, CHOSEN)}
    about = FineTuning(str(base), data={"name": "data", "learnt": 2, "held_out": 1, "seen": seen})
    return save_finetuned(
        tmp_path / "mine", moved(load_model(base, "cpu")), load_model(base, "cpu").state_dict(), about
    )


def scored(report: dict) -> set[str]:
    return {Path(row["sample"]).name for row in report["objects"]}


def evaluate(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[dict, str]:
    assert main(["evaluate", *map(str, arguments), "--device", "cpu", "--clicks", "1", "--json"]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def test_only_what_it_did_not_learn_from_is_scored(
    mine: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    report, said = evaluate(capsys, pictures, "--model", mine)
    assert scored(report) == {*CHOSEN, *NEW}
    assert "trained on 2 of these 5 pictures; only the other 3 are scored" in said
    assert "best epoch of this model was chosen on 1 of the 3 pictures" in said
    assert [note in said for note in report["notes"]] == [True, True]
    first, _ = evaluate(capsys, pictures, "--model", mine, "--limit", 1)
    assert scored(first) == set(CHOSEN), "the limit counts what is scored"
    everything, said = evaluate(capsys, pictures, "--model", mine, "--include-training")
    assert len(scored(everything)) == 5
    assert "scored all the same" in said
    of_base, said = evaluate(capsys, pictures, "--model", mine.parent / "toy.safetensors")
    assert len(scored(of_base)) == 5
    assert said == ""
    for folder in ("images", "masks"):
        (tmp_path / "moved" / folder).mkdir(parents=True)
        for number in range(5):
            shutil.copy(pictures / folder / f"{number}.png", tmp_path / "moved" / folder / f"new {number}.png")
    report, _ = evaluate(capsys, tmp_path / "moved", "--model", mine)
    assert scored(report) == {"new 2.png", "new 3.png", "new 4.png"}
    for name in (*CHOSEN, *NEW):
        (pictures / "images" / name).unlink()
    report, said = evaluate(capsys, pictures, "--model", mine)
    assert scored(report) == set(TRAINED)
    assert "trained on all of these 2 pictures: the numbers say how well it remembers them" in said


def test_the_table_says_so(mine: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    call = ["evaluate", str(pictures), "--model", str(mine), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(call) == 0
    assert "**This model was trained on 2 of these 5 pictures;" in capsys.readouterr().out
    assert "**This model was trained on 2" in (tmp_path / "out" / "results.md").read_text()
    assert main(call) == 0, "the same command goes on"


@pytest.mark.parametrize("form", ["merged", "official", "transformers", "next"])
def test_in_every_form(form: str, mine: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One file of whole weights, other people's formats, and a fine-tuning of the fine-tuning."""
    model = load_model(mine, "cpu")
    if form == "merged":
        assert main(["merge", str(mine), "--out", str(tmp_path / "whole.safetensors")]) == 0
        capsys.readouterr()
        source = tmp_path / "whole.safetensors"
    elif form == "official":
        source = save_official(model, tmp_path / "whole.pt")
    elif form == "transformers":
        source = save_transformers(model, tmp_path / "theirs")
    else:
        more = FineTuning(str(mine), data={"seen": {"training": keys_of(pictures, CHOSEN)}})
        source = save_finetuned(tmp_path / "next", moved(load_model(mine, "cpu")), model.state_dict(), more)
    report, _ = evaluate(capsys, pictures, "--model", source)
    assert scored(report) == ({*NEW} if form == "next" else {*CHOSEN, *NEW})


def test_clips(mine: Path, clips: Path, capsys: pytest.CaptureFixture) -> None:
    edit_json(mine, data={"seen": {"training": keys_of(clips, ["c0", "c1"])}})
    report, said = evaluate(capsys, clips, "--model", mine)
    assert scored(report) == {"c2"}, "clips that begin alike are told apart"
    assert "trained on 2 of these 3 clips" in said


def test_in_python(mine: Path, pictures: Path) -> None:
    model, data = load_model(mine, "cpu"), open_dataset(pictures)
    report = evaluate_dataset(model, data, Settings(clicks=1))
    assert report is not None and {Path(row.sample).name for row in report.rows} == {*CHOSEN, *NEW}
    assert "trained on 2 of these 5" in markdown(report)
    image = np.array(Image.open(pictures / "images" / "0.png"))
    given = [LabelledFrames.of_picture(image + n, [image[..., 0] > 100]) for n in range(2)]
    known = [SampleInMemory(name, labelled) for name, labelled in zip("ab", given, strict=True)]
    model.seen = {"training": frozenset(content_keys(known[:1]))}
    samples, notes = samples_to_score(model, Dataset(Path("memory"), "arrays", known), Settings())
    assert [sample.name for sample in samples] == ["b"]
    assert len(notes) == 1


def test_the_photos_of_the_card(nano: SAM2, assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = load_model("nano", "cpu")
    photos = open_dataset(assets / "photos").pictures
    model.seen = {"training": frozenset(content_keys(photos[:-1]))}
    save_model(model, tmp_path / "knows.safetensors")
    call = ["evaluate", str(assets / "photos"), "--model", str(tmp_path / "knows.safetensors"), "--json"]
    assert main([*call, "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "trained on 5 of these 6 pictures; only the other 1 are scored" in said.err
    assert len(json.loads(said.out)["objects"]) < 24


@pytest.mark.parametrize("seen", [["a"], {"training": "a"}, {"training": [1]}])
def test_a_damaged_list_is_refused(seen: object, mine: Path) -> None:
    edit_json(mine, data={"seen": seen})
    with pytest.raises(ValueError, match="'data' cannot be read"):
        load_model(mine, "cpu")
