"""Each effect does what its name says, to the right pixels, and leaves its input alone."""

from __future__ import annotations

import numpy as np
import pytest

from sam2kit.media.drawing import colour_of, soft_mask
from sam2kit.media.effects import (
    BACKGROUND_EFFECTS,
    EFFECTS,
    OBJECT_EFFECTS,
    ORIGINAL,
    TRAIL_FRAMES,
    EffectPainter,
    combined,
)

SIZE = (96, 128)
FRAME = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def square(x: int, y: int, half: int = 20) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y - half : y + half, x - half : x + half] = True
    return mask


MASK = square(64, 48)


def painted_by(effect: str, masks: dict, frame: np.ndarray = FRAME, **options: object) -> np.ndarray:
    return EffectPainter(effect, **options).paint(frame, masks)


@pytest.mark.parametrize("effect", EFFECTS)
def test_inputs_stay_and_shapes_hold(effect: str) -> None:
    painter = EffectPainter(effect, names={1: "cat", "b": "dog"})
    frame, mask = FRAME.copy(), MASK.copy()
    for masks in ({1: mask, "b": square(20, 20, 8)}, {1: mask & False}, {}, {2: np.ones(SIZE, bool)}):
        painted = painter.paint(frame, masks)
        assert painted.shape == (*SIZE, 4 if painter.makes_alpha else 3) and painted.dtype == np.uint8
        assert not np.shares_memory(painted, frame)
    assert np.array_equal(frame, FRAME) and np.array_equal(mask, MASK)


@pytest.mark.parametrize("effect", ["blur_object", "pixelate_object"])
def test_only_the_object_is_hidden(effect: str) -> None:
    painted = painted_by(effect, {1: MASK})
    assert np.array_equal(painted[~square(64, 48, 24)], FRAME[~square(64, 48, 24)])
    edge = square(64, 48, 21) & ~MASK
    assert (painted[edge] != FRAME[edge]).mean() > 0.8, "the rim of the object is hidden too"
    for hidden in (painted, painted_by(effect, {1: MASK, 2: square(70, 50)})):
        assert hidden[MASK].std(axis=0).max() < 0.25 * FRAME[MASK].std(axis=0).min()


@pytest.mark.parametrize("effect", ["blur_object", "pixelate_object"])
@pytest.mark.parametrize("scale", [1, 4])
def test_writing_cannot_be_read_at_any_size(effect: str, scale: int) -> None:
    frame = np.zeros((120 * scale, 200 * scale, 3), np.uint8)
    frame[:, np.arange(200 * scale) // (2 * scale) % 2 == 0] = 255  # strokes are about a tenth of a plate's height
    plate = np.zeros(frame.shape[:2], bool)
    plate[50 * scale : 70 * scale, 40 * scale : 140 * scale] = True
    middle = painted_by(effect, {1: plate}, frame)[60 * scale, 50 * scale : 130 * scale].astype(int)
    assert middle.max() - middle.min() < 90
    assert np.abs(np.diff(middle, n=scale, axis=0)).max() < 90


@pytest.mark.parametrize("effect", ["blur_background", "pixelate_background"])
def test_a_hidden_background_takes_no_colour_from_the_object(effect: str) -> None:
    frame = np.full((*SIZE, 3), 100, np.uint8)
    frame[MASK] = 255, 0, 0
    outside = painted_by(effect, {1: MASK}, frame)[~square(64, 48, 23)].astype(int)
    assert np.abs(outside - 100).max() <= 2


def test_alpha_and_colours() -> None:
    cut = painted_by("cut_out", {1: MASK})
    assert np.array_equal(cut[..., 3] == 255, MASK)
    assert not cut[~MASK].any(), "what is hidden is not in the file"
    assert (painted_by("green_screen", {1: MASK}, colour=(1, 2, 3))[~MASK] == (1, 2, 3)).all()
    grey = painted_by("desaturate_background", {1: MASK})[~MASK]
    assert (grey == grey[:, :1]).all()
    assert (painted_by("spotlight", {1: MASK})[~MASK] <= FRAME[~MASK]).all()
    for effect in BACKGROUND_EFFECTS:
        painted = painted_by(effect, {1: MASK})[..., :3]
        assert np.array_equal(painted[MASK], FRAME[MASK]), "the object stays as it is"
        assert (painted[~MASK] != FRAME[~MASK]).mean() > 0.9
    full = painted_by("overlay", {3: MASK}, opacity=1.0)
    assert full[48, 64].tolist() == pytest.approx(list(colour_of(3)), abs=2)
    lines, away = painted_by("outline", {3: MASK}), square(64, 48, 16) | ~square(64, 48, 24)
    assert np.array_equal(lines[away], FRAME[away])
    assert lines[28, 64].tolist() == pytest.approx(list(colour_of(3)), abs=25)


@pytest.mark.parametrize("effect", BACKGROUND_EFFECTS)
def test_a_feather_fades_into_the_background(effect: str) -> None:
    hard, soft = (painted_by(effect, {1: MASK}, feather=feather).astype(int) for feather in (0, 10))
    inside, outside = square(64, 48, 14), ~square(64, 48, 26)
    assert np.array_equal(soft[inside], hard[inside]) and np.array_equal(soft[outside], hard[outside])
    rim = ~inside & ~outside
    assert (soft[rim] != hard[rim]).any(axis=-1).mean() > 0.5
    if effect == "cut_out":
        assert np.array_equal(soft[..., 3], soft_mask(MASK, 10))
        assert np.array_equal(soft[soft[..., 3] > 0][:, :3], FRAME[soft[..., 3] > 0]), "colours are not darkened"


@pytest.mark.parametrize("effect", ["overlay", "outline", "fill_object", "trail"])
def test_an_object_may_have_another_colour_than_that_of_its_number(effect: str) -> None:
    colours = {3: 6 + 8 * 3, "cat": 2}
    for object_id, like in ((3, 6), ("cat", 2), (1, 1)):
        assert np.array_equal(painted_by(effect, {object_id: MASK}, colours=colours), painted_by(effect, {like: MASK}))


def test_names_are_written() -> None:
    plain, named = (painted_by("outline", {1: MASK}, names=names) for names in ({}, {1: "cat"}))
    changed = np.argwhere((plain != named).any(axis=2))
    assert len(changed) > 50
    assert changed[:, 0].max() < 48, "beside the top of the object"


def test_the_trail_follows_and_forgets() -> None:
    frame = np.full((*SIZE, 3), 40, np.uint8)
    painter = EffectPainter("trail")
    for step in range(8):
        painted = painter.paint(frame, {5: square(20 + 10 * step, 30, 6)})
    assert painted[30, 25].tolist() == list(colour_of(5)), "where the object came from"
    assert painted[60, 25].tolist() == [40] * 3
    for _ in range(TRAIL_FRAMES + 2):
        painted = painter.paint(frame, {5: square(100, 70, 6)})
    assert painted[30, 25].tolist() == [40] * 3
    painter.paint(frame, {5: square(20, 70, 6)})
    painter.reset()
    assert painter.paint(frame, {5: square(100, 70, 6)})[70, 60].tolist() == [40] * 3


@pytest.mark.parametrize("objects", [ORIGINAL, *OBJECT_EFFECTS])
def test_one_effect_for_objects_and_one_for_the_rest(objects: str) -> None:
    """Together they change what each of them changes; alone each is the other's "as it is"."""
    inside, outside = square(64, 48, 14), ~square(64, 48, 34)
    alone = painted_by(objects, {0: MASK})
    for background in (ORIGINAL, *BACKGROUND_EFFECTS):
        painted = painted_by(combined(objects, background), {0: MASK})
        assert painted.shape == (*SIZE, 4 if background == "cut_out" else 3)
        if objects != "blur_object":  # which mixes in what is around
            assert np.array_equal(painted[inside][:, :3], alone[inside])
        assert np.array_equal(painted[outside], painted_by(background, {0: MASK})[outside])
    assert EffectPainter(combined(objects, "cut_out")).makes_alpha


@pytest.mark.parametrize(
    ("effect", "options", "message"),
    [
        ("sparkle", {}, r"unknown effect 'sparkle'; known are original, .*trail"),
        ("cut_out+overlay", {}, "so it comes last"),
        ("blur_object", {"strength": 0}, "strength"),
        ("overlay", {}, r"object 7 is \[5, 6\], but the frame is \[96, 128\]"),
    ],
)
def test_mistakes_are_explained(effect: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        painted_by(effect, {7: np.ones((5, 6), bool)}, **options)
