"""Each effect does what its name says, to the right pixels, and leaves its input alone."""

from __future__ import annotations

import numpy as np
import pytest

from sam2kit.media.drawing import colour_of
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


@pytest.fixture
def frame() -> np.ndarray:
    """Noise, 96 high and 128 wide."""
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture
def mask() -> np.ndarray:
    """A square of 40 pixels in the middle."""
    return square(64, 48)


def square(x: int, y: int, half: int = 20) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y - half : y + half, x - half : x + half] = True
    return mask


@pytest.mark.parametrize("effect", EFFECTS)
def test_inputs_stay_and_shapes_hold(effect: str, frame: np.ndarray, mask: np.ndarray) -> None:
    painter = EffectPainter(effect, names={1: "cat", "b": "dog"})
    before, mask_before = frame.copy(), mask.copy()
    for masks in ({1: mask, "b": square(20, 20, 8)}, {1: mask & False}, {}, {2: np.ones(SIZE, bool)}):
        painted = painter.paint(frame, masks)
        assert painted.shape == (*SIZE, 4 if painter.makes_alpha else 3)
        assert painted.dtype == np.uint8
        assert not np.shares_memory(painted, frame)
    assert np.array_equal(frame, before)
    assert np.array_equal(mask, mask_before)


@pytest.mark.parametrize("effect", [e for e in EFFECTS if "background" in e or e in ("spotlight", "green_screen")])
def test_the_object_stays_as_it_is(effect: str, frame: np.ndarray, mask: np.ndarray) -> None:
    painted = EffectPainter(effect).paint(frame, {1: mask})
    assert np.array_equal(painted[mask], frame[mask])
    assert (painted[~mask] != frame[~mask]).mean() > 0.9


@pytest.mark.parametrize("effect", ["blur_object", "pixelate_object"])
def test_only_the_object_is_hidden(effect: str, frame: np.ndarray, mask: np.ndarray) -> None:
    painted = EffectPainter(effect).paint(frame, {1: mask})
    assert np.array_equal(painted[~square(64, 48, 24)], frame[~square(64, 48, 24)])
    assert painted[mask].std(axis=0).max() < 0.25 * frame[mask].std(axis=0).min()
    edge = square(64, 48, 21) & ~mask
    assert (painted[edge] != frame[edge]).mean() > 0.8, "the rim of the object is hidden too"
    both = EffectPainter(effect).paint(frame, {1: mask, 2: square(70, 50)})
    assert both[mask].std(axis=0).max() < 0.25 * frame[mask].std(axis=0).min()


def stripes(size_hw: tuple[int, int], width: int) -> np.ndarray:
    frame = np.zeros((*size_hw, 3), np.uint8)
    frame[:, np.arange(size_hw[1]) // width % 2 == 0] = 255
    return frame


@pytest.mark.parametrize("effect", ["blur_object", "pixelate_object"])
@pytest.mark.parametrize("scale", [1, 4])
def test_writing_cannot_be_read_at_any_size(effect: str, scale: int) -> None:
    size = (120 * scale, 200 * scale)
    plate = np.zeros(size, bool)
    plate[50 * scale : 70 * scale, 40 * scale : 140 * scale] = True
    frame = stripes(size, 2 * scale)  # strokes of letters are about a tenth of a plate's height
    painted = EffectPainter(effect).paint(frame, {1: plate})
    middle = painted[60 * scale, 50 * scale : 130 * scale].astype(int)
    assert middle.max() - middle.min() < 90
    assert np.abs(np.diff(middle, n=scale, axis=0)).max() < 90


@pytest.mark.parametrize("effect", ["blur_background", "pixelate_background"])
def test_a_hidden_background_takes_no_colour_from_the_object(effect: str, mask: np.ndarray) -> None:
    frame = np.full((*SIZE, 3), 100, np.uint8)
    frame[mask] = 255, 0, 0
    painted = EffectPainter(effect).paint(frame, {1: mask})
    outside = painted[~square(64, 48, 23)].astype(int)
    assert np.abs(outside - 100).max() <= 2


def test_alpha_and_colours(frame: np.ndarray, mask: np.ndarray) -> None:
    cut = EffectPainter("cut_out").paint(frame, {1: mask})
    assert np.array_equal(cut[..., 3] == 255, mask)
    assert not cut[~mask].any(), "what is hidden is not in the file"
    assert np.array_equal(cut[mask][:, :3], frame[mask])
    green = EffectPainter("green_screen", colour=(1, 2, 3)).paint(frame, {1: mask})
    assert (green[~mask] == (1, 2, 3)).all()
    grey = EffectPainter("desaturate_background").paint(frame, {1: mask})[~mask]
    assert (grey[:, 0] == grey[:, 1]).all()
    assert (grey[:, 1] == grey[:, 2]).all()
    dark = EffectPainter("spotlight").paint(frame, {1: mask})
    assert (dark[~mask] <= frame[~mask]).all()
    full = EffectPainter("overlay", opacity=1.0).paint(frame, {3: mask})
    assert full[48, 64].tolist() == pytest.approx(list(colour_of(3)), abs=2)
    lines = EffectPainter("outline").paint(frame, {3: mask})
    inner, outer = square(64, 48, 16), ~square(64, 48, 24)
    assert np.array_equal(lines[inner | outer], frame[inner | outer])
    assert lines[28, 64].tolist() == pytest.approx(list(colour_of(3)), abs=25)


@pytest.mark.parametrize("effect", ["overlay", "outline", "fill_object", "trail"])
def test_an_object_may_have_another_colour_than_that_of_its_number(effect: str, mask: np.ndarray) -> None:
    frame = np.full((*SIZE, 3), 40, np.uint8)
    painter = EffectPainter(effect, colours={3: 6 + 8 * 3, "cat": 2})
    assert np.array_equal(painter.paint(frame, {3: mask}), EffectPainter(effect).paint(frame, {6: mask}))
    painter.reset()
    assert np.array_equal(painter.paint(frame, {"cat": mask}), EffectPainter(effect).paint(frame, {2: mask}))
    assert np.array_equal(painter.paint(frame, {1: mask}), EffectPainter(effect).paint(frame, {1: mask}))


def test_names_are_written(frame: np.ndarray, mask: np.ndarray) -> None:
    plain = EffectPainter("outline").paint(frame, {1: mask})
    named = EffectPainter("outline", names={1: "cat"}).paint(frame, {1: mask})
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
    painted = painter.paint(frame, {5: square(100, 70, 6)})
    assert painted[70, 60].tolist() == [40] * 3


def test_mistakes_are_explained(frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"unknown effect 'sparkle'; known are original, .*trail"):
        EffectPainter("sparkle")
    with pytest.raises(ValueError, match="strength"):
        EffectPainter("blur_object", strength=0)
    with pytest.raises(ValueError, match=r"object 7 is \[5, 6\], but the frame is \[96, 128\]"):
        EffectPainter("overlay").paint(frame, {7: np.ones((5, 6), bool)})


@pytest.mark.parametrize("objects", [ORIGINAL, *OBJECT_EFFECTS])
@pytest.mark.parametrize("background", [ORIGINAL, *BACKGROUND_EFFECTS])
def test_one_effect_for_objects_and_one_for_the_rest(objects: str, background: str) -> None:
    """Together they change what each of them changes; alone each is the other's "as it is"."""
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[20:40, 30:60] = True
    painted = EffectPainter(combined(objects, background)).paint(frame, {0: mask})
    assert painted.shape == (60, 80, 4 if background == "cut_out" else 3)
    inside, outside = np.zeros_like(mask), np.ones_like(mask)
    inside[24:36, 34:56] = True
    outside[10:50, 20:70] = False
    if objects != "blur_object":  # which mixes in what is around
        alone = EffectPainter(objects).paint(frame, {0: mask})
        assert np.array_equal(painted[inside][:, :3], alone[inside])
    rest = EffectPainter(background).paint(frame, {0: mask})
    assert np.array_equal(painted[outside], rest[outside])


def test_what_is_transparent_comes_last() -> None:
    assert combined("overlay", "blur_background") == "blur_background+overlay"
    assert combined("overlay", "cut_out") == "overlay+cut_out"
    assert combined(ORIGINAL, ORIGINAL) == ORIGINAL
    assert EffectPainter("overlay+cut_out").makes_alpha
    with pytest.raises(ValueError, match="so it comes last"):
        EffectPainter("cut_out+overlay")
