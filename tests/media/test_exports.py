"""Drawings and files made of masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sam2kit.datasets.opening import open_dataset
from sam2kit.media.drawing import PALETTE, colour_of, draw_masks, draw_prompts
from sam2kit.media.exports import (
    NamedMask,
    coco_json,
    cut_out,
    mask_image,
    overlap,
    overlap_files,
    overlap_name,
    write_image,
    write_json,
)


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
    assert np.array_equal(photo, before)
    assert drawn[20, 20].tolist() == pytest.approx(list(colour_of(1)), abs=2)
    assert np.array_equal(drawn[:5], photo[:5])
    assert np.array_equal(draw_masks(photo, [mask & False], [0]), photo)
    marked = draw_prompts(photo, [(20, 20, 1), (40, 20, 0)], [5, 5, 35, 35], [50, 30])
    green, red = marked[18, 22].astype(int), marked[18, 42].astype(int)
    assert green[1] > green[0]
    assert red[0] > red[1]


def test_palette_repeats() -> None:
    assert colour_of(0) == colour_of(len(PALETTE))
    assert len(set(PALETTE)) == len(PALETTE)


def test_mask_images(halves: list[NamedMask]) -> None:
    one = np.array(mask_image(halves[:1]))
    assert set(np.unique(one)) == {0, 255}
    two = mask_image(halves)
    assert two.mode == "P"
    labels = np.array(two)
    assert (labels[:, :15] == 1).all(), "the earlier object wins"
    assert (labels[:10, 15:] == 2).all()
    assert (labels[10:, 15:] == 0).all()


def test_what_a_palette_picture_hides_lies_beside_it_and_is_read_back(halves: list[NamedMask], tmp_path: Path) -> None:
    left, top = (item.mask for item in halves)
    assert overlap([left, top])
    assert not overlap([left, top & ~left])
    assert not overlap([])
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    write_image(Image.fromarray(np.full((20, 30, 3), 90, np.uint8)), tmp_path / "images" / "a.png")
    write_image(mask_image(halves), tmp_path / "masks" / "a.png")
    for number, item in enumerate(halves, start=1):
        alone = tmp_path / "masks" / overlap_name(number, "a.png")
        alone.parent.mkdir(parents=True)
        write_image(mask_image([item]), alone)
    assert list(overlap_files(tmp_path / "masks", "a.png")) == [1, 2]
    dataset = open_dataset(tmp_path)
    assert dataset.skipped == []
    read = dataset.pictures[0].read()
    assert all(np.array_equal(found, item.mask) for found, item in zip(read.masks, halves, strict=True))


def test_cut_out(photo: np.ndarray) -> None:
    mask = np.zeros(photo.shape[:2], bool)
    mask[10:20, 30:50] = True
    image = cut_out(photo, mask)
    assert image.mode == "RGBA"
    assert image.size == (24, 14)
    alpha = np.array(image)[..., 3]
    assert alpha[7, 12] == 255
    assert alpha[0, 0] < 40
    with pytest.raises(ValueError, match="empty"):
        cut_out(photo, mask & False)


def test_coco_is_read_back_exactly(halves: list[NamedMask], tmp_path: Path) -> None:
    path = write_json(coco_json(halves, "a.jpg", (20, 30)), tmp_path / "a.json")
    coco = COCO(path)
    for annotation, item in zip(coco.loadAnns(coco.getAnnIds()), halves, strict=True):
        assert np.array_equal(coco.annToMask(annotation).astype(bool), item.mask)
        assert annotation["area"] == item.mask.sum()
        assert coco.loadCats(annotation["category_id"])[0]["name"] == item.name
    assert coco.loadAnns(1)[0]["bbox"] == [0, 0, 15, 20]


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_image(Image.new("RGB", (4, 4), "red"), tmp_path / "a.png")
    before = path.read_bytes()

    def broken(self: Image.Image, file: Path, **_: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        write_image(Image.new("RGB", (4, 4)), path)
    assert path.read_bytes() == before
