"""Finer edges: tiles along the boundary, and what may change of a mask."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import sam2kit
from sam2kit.evaluation.clicks import tight_boxes
from sam2kit.evaluation.metrics import boundary_accuracy, region_similarity
from sam2kit.model.sam2 import SAM2
from sam2kit.nano.held_out import held_out_pictures
from sam2kit.predict import refine
from sam2kit.predict.automatic import FoundMask
from sam2kit.predict.frame_masks import CompactLogits
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.refine import coarse_answers, masks_to_refine, refine_masks, take_refined, tiles_along
from sam2kit.predict.session import Session
from sam2kit.predict.video import VideoPredictor

SIZE_HW, CENTRE, RADIUS = (150, 220), (100, 70), 45


def disc(radius: float = RADIUS, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return (x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 <= radius**2


def picture(seed: int = 0, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8)


def edge_distance(mask: np.ndarray) -> np.ndarray:
    """How far each pixel is from the nearest one of the other kind."""
    return np.maximum(*(cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5) for part in (mask, ~mask)))


@pytest.fixture
def agreeing(toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> ImagePredictor:
    """A predictor of noise, whose answers are taken whatever they are."""
    monkeypatch.setattr(refine, "_MIN_IOU", 0.0)
    return ImagePredictor(toy)


# tiles


@pytest.mark.parametrize("side", [40, 64, 100])
def test_tiles_cover_the_whole_boundary_well_inside(side: int) -> None:
    mask = disc() | disc(20, SIZE_HW)[::-1, ::-1]
    edges = np.argwhere(mask & (edge_distance(mask) <= 1.5))
    tiles = tiles_along(mask, side)
    height, width = SIZE_HW
    for y, x in edges:
        depths = [
            min(x - x0 if x0 else side, y - y0 if y0 else side, x1 - 1 - x if x1 < width else side,
                y1 - 1 - y if y1 < height else side)
            for x0, y0, x1, y1 in tiles
        ]  # fmt: skip
        assert max(depths) >= side / 4 - 2
    assert len(set(tiles)) == len(tiles)
    assert all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in tiles)


def test_tiles_are_only_where_an_edge_is() -> None:
    mask = np.zeros((1000, 1000), bool)
    mask[480:520, 480:520] = True
    assert len(tiles_along(mask, 100)) <= 4, "of 361 in the grid"
    for nothing in (np.zeros((300, 300), bool), np.ones((300, 300), bool)):
        assert tiles_along(nothing, 100) == []


def test_tiles_are_no_larger_than_the_picture() -> None:
    mask = np.zeros((50, 300), bool)
    mask[:, :150] = True
    assert {(y0, y1, x1 - x0) for x0, y0, x1, y1 in tiles_along(mask, 100)} == {(0, 50, 100)}


# masks


def test_only_pixels_near_the_old_boundary_change(agreeing: ImagePredictor) -> None:
    mask = disc()
    finer = refine_masks(agreeing, picture(), mask)
    changed = finer != mask
    reach = refine._REACH * SIZE_HW[1] / agreeing.model.config.low_res_side
    assert changed.any(), "the toy model draws something else"
    assert edge_distance(mask)[changed].max() <= reach + 0.5
    assert finer.shape == mask.shape and finer.dtype == bool


def test_a_tile_that_shows_another_thing_changes_nothing(toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refine, "_MIN_IOU", 1.01)
    assert np.array_equal(refine_masks(ImagePredictor(toy), picture(), disc()), disc())


def test_empty_and_full_masks_stay(agreeing: ImagePredictor) -> None:
    masks = np.stack([np.zeros(SIZE_HW, bool), np.ones(SIZE_HW, bool)])
    assert np.array_equal(refine_masks(agreeing, picture(), masks), masks)
    none = np.zeros((0, *SIZE_HW), bool)
    assert refine_masks(agreeing, picture(), none).shape == none.shape


def test_small_pictures_stay_and_are_not_encoded(agreeing: ImagePredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    side = agreeing.model.config.side
    mask = disc(20, (side, side))
    mask[:10] = True
    monkeypatch.setattr(agreeing, "encode_batch", None)
    assert np.array_equal(refine_masks(agreeing, picture(0, (side, side)), mask), mask)
    with pytest.raises(TypeError):
        refine_masks(agreeing, picture(), disc())


def test_several_masks_are_as_one_by_one_and_share_tiles(
    agreeing: ImagePredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks, encoded, encode = np.stack([disc(), disc(44), disc(12)]), [], agreeing.encode_batch
    monkeypatch.setattr(agreeing, "encode_batch", lambda tiles: encoded.extend(tiles) or encode(tiles))
    together = refine_masks(agreeing, picture(), masks)
    count = len(encoded)
    alone = np.stack([refine_masks(agreeing, picture(), mask) for mask in masks])
    assert np.mean(together != alone) < 1e-3, "but for rounding"
    assert count < len(encoded) - count


def test_it_says_how_far_it_is(agreeing: ImagePredictor) -> None:
    reports: list[tuple[int, int]] = []
    refine_masks(agreeing, picture(), disc(), progress=lambda *report: reports.append(report))
    assert [done for done, _ in reports] == list(range(1, len(reports) + 1))
    assert {total for _, total in reports} == {len(reports)} and len(reports) > 2


@pytest.mark.parametrize("wrong", [disc()[:10], disc().astype(np.float32), np.zeros((2, 3, *SIZE_HW), bool)])
def test_masks_have_to_fit(toy: SAM2, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"masks must be bool \[N, 150, 220\] as the picture"):
        sam2kit.refine_masks(ImagePredictor(toy), picture(), wrong)


# sessions


@pytest.fixture
def session(present: SAM2) -> Session:
    predictor = VideoPredictor(present)
    opened = predictor.open(picture())
    runs = [refine.mask_to_runs(disc(radius)) for radius in (RADIUS, 20)]
    predictor.add_found(opened, 0, [FoundMask(one, (0, 0, 9, 9), 0.9, 0.9, CENTRE, (0, 0, 9, 9)) for one in runs])
    return opened


def test_refined_masks_keep_their_resolution(session: Session, present: SAM2, tmp_path: Path) -> None:
    before, answers = session.masks(0).masks, coarse_answers(session)
    wanted = [disc(RADIUS + 1), disc(21)]
    assert take_refined(session, answers, [refine.mask_to_runs(mask) for mask in wanted]) == [1, 2]
    assert np.array_equal(session.masks(0).masks, np.stack(wanted)), "to the pixel"
    assert coarse_answers(session) == {}
    assert not np.array_equal(before, np.stack(wanted))
    path = VideoPredictor(present).save(session, tmp_path / "it.session.safetensors")
    again = Session.load(path)
    assert np.array_equal(again.masks(0).masks, np.stack(wanted))
    session.undo()
    assert np.array_equal(session.masks(0).masks, before), "one step back for both"


def test_what_changed_meanwhile_is_left_alone(session: Session, present: SAM2) -> None:
    answers = coarse_answers(session)
    VideoPredictor(present).add_mask(session, 0, 2, disc(30))
    session.remove_object(1)
    steps = len(session.past)
    assert take_refined(session, answers, [refine.mask_to_runs(disc())] * 2) == []
    assert len(session.past) == steps, "nothing to undo"


def test_clicks_go_on_from_a_refined_mask(session: Session, present: SAM2) -> None:
    predictor, answers = VideoPredictor(present), coarse_answers(session)
    take_refined(session, answers, [refine.mask_to_runs(disc(50)), refine.mask_to_runs(disc(25))])
    predictor.add_points(session, 0, 1, [[100, 70]])
    assert list(coarse_answers(session)) == [1]
    session.undo()
    assert np.array_equal(session.masks(0).mask(1), disc(50))


def test_masks_to_refine_are_neither_grown_nor_cut(session: Session) -> None:
    plain = [session.masks(0).mask(number) for number in (1, 2)]
    session.options = session.options.changed(grow=5.0, exclusive=True)
    found = [refine.runs_to_mask(runs) for runs in masks_to_refine(session, coarse_answers(session))]
    assert np.array_equal(np.stack(found), np.stack(plain))


def test_clicked_parts_of_refined_masks_stay(nano: SAM2) -> None:
    predictor = VideoPredictor(nano)
    session = predictor.open(picture(1, (300, 500)))
    predictor.add_points(session, 0, 1, [[100, 70]])
    there = disc(30, (300, 500)) | disc(30, (300, 500))[:, ::-1]
    take_refined(session, coarse_answers(session), [refine.mask_to_runs(there)])
    assert session.options.keep_clicked
    assert np.array_equal(session.masks(0).mask(1), disc(30, (300, 500)))


def test_videos_are_not_refined(present: SAM2, clip: np.ndarray) -> None:
    predictor = VideoPredictor(present)
    session = predictor.open(list(clip))
    predictor.add_points(session, 0, 1, [[10, 20]])
    assert coarse_answers(session) == {}


def test_packed_logits_belong_to_the_picture(session: Session, present: SAM2, tmp_path: Path) -> None:
    """A file whose refined mask has another size than its picture is refused."""
    item = session.objects[1]
    item.prompted[0] = item.prompted[0].refined(disc()[:-1])
    assert isinstance(item.prompted[0].logits, CompactLogits)
    path = VideoPredictor(present).save(session, tmp_path / "it.session.safetensors")
    with pytest.raises(ValueError, match="PNG of 220x150"):
        Session.load(path)


# nano


@pytest.mark.slow
def test_edges_of_large_pictures_become_finer(nano: SAM2) -> None:
    predictor, rows = ImagePredictor(nano), []
    for scene in held_out_pictures(4, side=1024, per_picture=2):
        truths = np.stack([truth for truth in scene.picture_masks if truth.any()])
        boxes = Prompt(box_xyxy=tight_boxes(refine.torch.from_numpy(truths)))
        masks = predictor.predict(predictor.encode(scene.image), boxes).masks[:, 0].numpy()
        finer = refine_masks(predictor, scene.image, masks)
        for truth, pair in zip(truths, zip(masks, finer, strict=True), strict=True):
            scores = (region_similarity, boundary_accuracy, lambda mask, true: boundary_accuracy(mask, true, 2))
            rows.append([[score(mask, truth) for score in scores] for mask in pair])
    before, after = np.mean(rows, axis=0)
    assert (after >= before - 0.01).all(), "J, F, and F within two pixels"
    assert after[2] > before[2] + 0.1
