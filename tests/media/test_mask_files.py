"""Drawings and files made of masks."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sam2kit.data.mask_exports import coco_json, picture_table
from sam2kit.data.opening import open_dataset
from sam2kit.files import write_json
from sam2kit.media.drawing import colour_of, draw_masks, draw_prompts, grow_mask, soft_mask
from sam2kit.media.mask_files import NamedMask, cut_out, mask_image, overlap, overlap_files, overlap_name, write_image


@pytest.fixture
def halves() -> list[NamedMask]:
    """Left half and top half of a 20x30 picture; they overlap."""
    left, top = np.zeros((2, 20, 30), bool)
    left[:, :15], top[:10] = True, True
    return [NamedMask.of("cat", left, 0.9), NamedMask.of("dog", top, 0.8)]


def test_drawing_leaves_the_picture_alone(photo: np.ndarray) -> None:
    before = photo.copy()
    mask = np.zeros(photo.shape[:2], bool)
    mask[10:30, 10:30] = True
    drawn = draw_masks(photo, [mask], [1], opacity=1.0)
    assert drawn[20, 20].tolist() == pytest.approx(list(colour_of(1)), abs=2)
    assert np.array_equal(drawn[:5], photo[:5])
    assert np.array_equal(draw_masks(photo, [mask & False], [0]), photo)
    marked = draw_prompts(photo, [(20, 20, 1), (40, 20, 0)], [5, 5, 35, 35], [50, 30]).astype(int)
    assert marked[18, 22, 1] > marked[18, 22, 0], "green"
    assert marked[18, 42, 0] > marked[18, 42, 1], "red"
    assert np.array_equal(photo, before)


def test_what_a_palette_picture_hides_lies_beside_it_and_is_read_back(halves: list[NamedMask], tmp_path: Path) -> None:
    assert set(np.unique(np.array(mask_image(halves[:1])))) == {0, 255}
    both = mask_image(halves)
    labels = np.array(both)
    assert both.mode == "P" and (labels[:, :15] == 1).all(), "the earlier of two that are as large"
    assert (labels[:10, 15:] == 2).all() and not labels[10:, 15:].any()
    small = NamedMask.of("eye", np.pad(np.ones((3, 3), bool), ((2, 15), (2, 25))))
    assert (np.array(mask_image([*halves, small]))[2:5, 2:5] == 3).all(), "smaller ones lie on top"
    left, top = (item.mask for item in halves)
    assert overlap([left, top]) and not overlap([left, top & ~left]) and not overlap([])
    (tmp_path / "images").mkdir()
    write_image(Image.fromarray(np.full((20, 30, 3), 90, np.uint8)), tmp_path / "images" / "a.png")
    alone = {overlap_name(number, "a.png"): mask_image([item]) for number, item in enumerate(halves, start=1)}
    for name, image in {"a.png": both, **alone}.items():
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(image, tmp_path / "masks" / name)
    assert list(overlap_files(tmp_path / "masks", "a.png")) == [1, 2]
    dataset = open_dataset(tmp_path)
    assert dataset.skipped == []
    read = dataset.pictures[0].read()
    assert all(np.array_equal(found, item.mask) for found, item in zip(read.picture_masks, halves, strict=True))


def test_cut_out(photo: np.ndarray) -> None:
    mask = np.zeros(photo.shape[:2], bool)
    mask[10:20, 30:50] = True
    image = cut_out(photo, mask)
    assert (image.mode, image.size) == ("RGBA", (24, 14))
    alpha = np.array(image)[..., 3]
    assert alpha[7, 12] == 255 and alpha[0, 0] < 40
    with pytest.raises(ValueError, match="empty"):
        cut_out(photo, mask & False)


def test_masks_grow_shrink_and_fade_by_pixels() -> None:
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:50] = True
    y, x = np.indices(mask.shape)
    away = np.hypot(np.maximum(0, np.maximum(30 - x, x - 49)), np.maximum(0, np.maximum(20 - y, y - 39)))
    assert np.array_equal(grow_mask(mask, 3), away <= 3)
    shrunk = grow_mask(mask, -3)
    assert shrunk[23:37, 33:47].all() and shrunk.sum() == 14 * 14
    assert grow_mask(mask, 0) is mask and not grow_mask(mask & False, 5).any() and not grow_mask(mask, -15).any()
    full = np.ones((8, 9), bool)
    assert grow_mask(full, -3).all(), "the border of the picture is no edge"
    soft = soft_mask(mask, 8)
    assert np.abs(soft[30, 26:34].astype(int) - (255 * (np.arange(8) + 0.5) / 8)).max() <= 1, "from outside to inside"
    assert np.array_equal(soft > 127, mask) and soft[30, 40] == 255 and soft[0, 0] == 0
    assert np.array_equal(soft_mask(mask, 0), mask * np.uint8(255)) and (soft_mask(full, 5) == 255).all()


def test_a_feather_is_in_masks_and_cut_outs(photo: np.ndarray) -> None:
    mask = np.zeros(photo.shape[:2], bool)
    mask[15:30, 20:45] = True
    alpha = np.array(cut_out(photo, mask, 6))[..., 3]
    assert alpha.shape == (25, 35) and len(np.unique(alpha)) > 4 and alpha[12, 17] == 255
    shown = np.array(mask_image([NamedMask.of("a", mask)], 6))
    assert np.array_equal(shown, soft_mask(mask, 6))


def test_a_table_says_where_objects_are(halves: list[NamedMask], tmp_path: Path) -> None:
    halves.append(NamedMask.of('a "red", cup', np.zeros((20, 30), bool), 0.123456))
    with picture_table(halves, tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0].values()) == ["1", "cat", "1", "300", "0.5", "7.0", "9.5", "0", "0", "14", "19", "0.9"]
    assert (rows[1]["y"], rows[1]["x1"], rows[1]["y1"], rows[1]["predicted_iou"]) == ("4.5", "29", "9", "0.8")
    assert (rows[2]["name"], rows[2]["present"], rows[2]["x0"]) == ('a "red", cup', "0", "")


def test_coco_is_read_back_exactly(halves: list[NamedMask], tmp_path: Path) -> None:
    coco = COCO(write_json(coco_json(halves, "a.jpg", (20, 30)), tmp_path / "a.json"))
    for annotation, item in zip(coco.loadAnns(coco.getAnnIds()), halves, strict=True):
        assert np.array_equal(coco.annToMask(annotation).astype(bool), item.mask)
        assert annotation["area"] == item.mask.sum()
        assert coco.loadCats(annotation["category_id"])[0]["name"] == item.name
    assert coco.loadAnns(1)[0]["bbox"] == [0, 0, 15, 20]
