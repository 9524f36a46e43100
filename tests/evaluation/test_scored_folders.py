"""Folders of PNGs: both layouts against the official evaluator, and what people get wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2kit.evaluation.metrics import DAVIS, OFFICIAL, Scoring
from sam2kit.evaluation.reports import summarise
from sam2kit.evaluation.scored_folders import score_folders
from tests.evaluation.samples_in_memory import square, write_labels
from tests.golden.training.recipes import metric_sequences
from tests.golden_models import GOLDEN

WANTED = json.loads((GOLDEN / "training" / "metrics.json").read_text())["sequences"]
SIZE = (20, 30)


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("layout", ["davis", "sav"])
def test_as_the_official_evaluator(layout: str, skip: bool, tmp_path: Path) -> None:
    for video, pair in metric_sequences(layout).items():
        for side, files in zip(("truth", "masks"), pair, strict=True):
            for name, labels in files.items():
                write_labels(tmp_path / side / video / f"{name}.png", labels)
    wanted = WANTED[f"{layout}/skip={skip}"]
    rows = list(score_folders(tmp_path / "masks", tmp_path / "truth", Scoring(skip_first=skip, skip_last=skip)))
    found = {(r.sample, r.object_id): (100 * r.scores["J"], 100 * r.scores["F"]) for r in rows}
    assert set(found) == {(video, i) for video, objects in wanted["objects"].items() for i in objects}
    for video, objects in wanted["objects"].items():
        for i, scores in objects.items():
            assert found[video, i] == pytest.approx(scores, abs=1e-9)
    summary = summarise(rows)
    for ours, theirs in (("J&F", "JF"), ("J", "J"), ("F", "F")):
        assert 100 * summary[ours].mean == pytest.approx(wanted[theirs], abs=1e-9)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A perfect prediction of one object on four frames."""
    for side in ("masks", "truth"):
        for t in range(4):
            write_labels(tmp_path / side / "v" / f"{t:05d}.png", square(SIZE, 2 + t, 2, 9) * 3)
    return tmp_path / "masks", tmp_path / "truth"


def test_a_perfect_prediction_in_whatever_form(folders: tuple[Path, Path]) -> None:
    """A palette, a denser clip, the folder of one video alone."""
    write_labels(folders[0] / "v" / "00001b.png", np.zeros(SIZE))
    picture = Image.fromarray(square(SIZE, 4, 2, 9).astype(np.uint8) * 3, mode="P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 9, 9, 9])
    picture.save(folders[0] / "v" / "00002.png")
    (row,) = score_folders(*folders)
    assert (row.sample, row.object_id, row.scores) == ("v", "3", {"J&F": 1.0, "J": 1.0, "F": 1.0, "frames": 2})
    assert list(score_folders(folders[0] / "v", folders[1] / "v")) == [row]


def test_ids_that_no_palette_can_hold(folders: tuple[Path, Path]) -> None:
    """sam2kit's table says which object a number is; without one, numbers are objects."""
    for t in range(4):
        for folder, numbers in zip(folders, ((1, 2), (300, 3)), strict=True):
            labels = square(SIZE, 2 + t, 2, 9) * numbers[0] + square(SIZE, 14, 12, 5) * numbers[1]
            Image.fromarray(labels.astype(np.uint16)).save(folder / "v" / f"{t:05d}.png")
    assert {row.object_id: row.scores["J"] for row in score_folders(*folders)} == {"3": 0, "300": 0}
    table = [{"number": 1, "object_id": 300}, {"number": 2, "object_id": 3}]
    (folders[0] / "v" / "objects.json").write_text(json.dumps(table))
    assert {row.object_id: row.scores["J"] for row in score_folders(*folders)} == {"3": 1, "300": 1}
    (folders[0] / "v" / "objects.json").write_text('{"number": 1}')
    with pytest.raises(ValueError, match=r"objects\.json is not as sam2kit wrote it"):
        list(score_folders(*folders))


def test_words_are_matched_by_both_tables_or_else_by_number(folders: tuple[Path, Path]) -> None:
    for t in range(4):
        write_labels(folders[0] / "v" / f"{t:05d}.png", square(SIZE, 2 + t, 2, 9) * 1)
    (folders[0] / "v" / "objects.json").write_text(json.dumps([{"number": 1, "object_id": "cup"}]))
    (row,) = score_folders(*folders)
    assert row.scores["J"] == 0
    (folders[1] / "v" / "objects.json").write_text(json.dumps([{"number": 3, "object_id": "cup"}]))
    (row,) = score_folders(*folders)
    assert row.scores["J"] == 1
    for table in (
        [{"number": 1, "object_id": "cup"}, {"number": 3, "object_id": "dog"}],
        [{"number": 3, "object_id": 7}],
    ):
        (folders[0] / "v" / "objects.json").write_text(json.dumps(table))
        for t in range(4):
            others = square(SIZE, 14, 12, 5) * 3 if len(table) > 1 else square(SIZE, 2 + t, 2, 9) * 3
            write_labels(folders[0] / "v" / f"{t:05d}.png", square(SIZE, 2 + t, 2, 9) * (len(table) > 1) + others)
        (row,) = score_folders(*folders)
        assert row.scores["J"] == (len(table) > 1), "an object that the truth lacks takes the number of none of its own"


def test_label_255(folders: tuple[Path, Path]) -> None:
    """An object for the SA-V evaluator, void for DAVIS."""
    for t in range(4):
        path = folders[1] / "v" / f"{t:05d}.png"
        write_labels(path, np.where(square(SIZE, 18, 8, 8), 255, np.array(Image.open(path))))
        path = folders[0] / "v" / f"{t:05d}.png"
        write_labels(path, np.where(square(SIZE, 18, 8, 8), 3, np.array(Image.open(path))))
    official = {r.object_id: r.scores["J"] for r in score_folders(*folders, OFFICIAL)}
    assert official["255"] == 0
    assert official["3"] < 0.6
    assert {r.object_id: r.scores["J"] for r in score_folders(*folders, DAVIS)} == {"3": 1.0}


def test_a_missing_prediction(folders: tuple[Path, Path]) -> None:
    (folders[0] / "v" / "00001.png").unlink()
    with pytest.raises(ValueError, match=r"no prediction .*00001.png"):
        list(score_folders(*folders))
    (row,) = score_folders(*folders, missing_is_empty=True)
    assert row.scores["J"] == 0.5


def test_what_people_get_wrong(folders: tuple[Path, Path], tmp_path: Path) -> None:
    masks = folders[0]
    wrong = masks / "v" / "00002.png"
    write_labels(wrong, np.zeros((9, 9)))
    with pytest.raises(ValueError, match=r"00002.png is 9x9, but its truth is 30x20"):
        list(score_folders(*folders))
    Image.new("RGB", (30, 20)).save(wrong)
    with pytest.raises(ValueError, match="picture in colour"):
        list(score_folders(*folders))
    wrong.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="cannot be read"):
        list(score_folders(*folders))
    with pytest.raises(FileNotFoundError, match="no folder"):
        list(score_folders(masks, tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no masks to compare"):
        list(score_folders(masks, tmp_path / "empty"))


def test_layouts_that_do_not_fit(folders: tuple[Path, Path], tmp_path: Path) -> None:
    single = tmp_path / "single"
    for t in range(4):
        write_labels(single / "v" / "000" / f"{t:05d}.png", square(SIZE, 2 + t, 2, 9) * 255)
    with pytest.raises(ValueError, match="a folder for each object"):
        list(score_folders(folders[0], single))
    with pytest.raises(ValueError, match="one PNG for all objects"):
        list(score_folders(single, folders[1]))
    labels = np.zeros(SIZE)
    labels[0, :3] = (1, 2, 3)
    write_labels(single / "v" / "000" / "00001.png", labels)
    with pytest.raises(ValueError, match="4 values"):
        list(score_folders(single, single))
