"""What can be done to a frame with masks: draw over the objects, hide them, or hide everything else.

Hiding means that what is hidden cannot be read: blocks and blurs grow with the object (or the picture), work on
slightly widened masks, and a blurred background takes no colour from the object in front of it.

Surprises: a painter remembers where objects were for the `trail` effect, so paint frames in order, or `reset()`.
Blocks and blur of a moving object can, with effort, be undone in part from many frames; only a plain colour
(`fill_object`) can't.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from sam2kit.media.drawing import colour_of, draw_masks, soft_mask, supervision_palette

if TYPE_CHECKING:
    import supervision

ORIGINAL = "original"
OBJECT_EFFECTS = {
    "overlay": "Objects in colour, with outlines",
    "outline": "Outlines only",
    "trail": "Outlines, and the way that each object took",
    "blur_object": "Objects blurred",
    "pixelate_object": "Objects in blocks",
    "fill_object": "Objects painted over",
}
BACKGROUND_EFFECTS = {
    "spotlight": "Everything else darkened",
    "desaturate_background": "Everything else in grey",
    "blur_background": "Everything else blurred",
    "pixelate_background": "Everything else in blocks",
    "green_screen": "Objects alone, on one colour",
    "cut_out": "Objects alone, on a transparent ground",
}
EFFECTS = {ORIGINAL: "As it is", **OBJECT_EFFECTS, **BACKGROUND_EFFECTS}
TRAIL_FRAMES = 40
_ALPHA = "cut_out"
_ALONG = "+"
_MOST_STEPS = 4
Masks = Mapping[Any, np.ndarray]  # by object id; why Any, see video_exports.py


def combined(objects: str, background: str) -> str:
    """One effect for the objects and one for everything else, as one for EffectPainter.

    What is transparent is cut out at the end; everything else is done before the objects are drawn on it.
    """
    both = [objects, background] if background == _ALPHA else [background, objects]
    return _ALONG.join(effect for effect in both if effect != ORIGINAL) or ORIGINAL


def parts_of(effect: str) -> tuple[str, str]:
    """The effect for the objects and the one for everything else, of which `combined` made one."""
    parts, both = effect.split(_ALONG), (OBJECT_EFFECTS, BACKGROUND_EFFECTS)
    objects, background = (next((one for one in parts if one in kind), ORIGINAL) for kind in both)
    return objects, background


class EffectPainter:
    """Paints an effect, or several one after the other, on frame after frame.

    Args:
        effect: one of EFFECTS, or several joined by "+", such as "blur_background+overlay"; see `combined`.
        names: object id -> a name to write beside it; used by overlay, outline and trail.
        colours: object id -> a number that `colour_of` makes its colour of, another one for each object; those that are
            left out have the colour of their id.
        strength: 1 is made to hide well; smaller is gentler, larger is stronger.
        colour: RGB of the ground for green_screen.
        opacity: of the colour in overlay, 0..1.
        feather: pixels over which objects fade into what is put behind them.
    Raises:
        ValueError: if the effect is unknown or a number is out of range.
    """

    def __init__(
        self,
        effect: str,
        *,
        names: Mapping[Any, str] | None = None,
        colours: Mapping[Any, int] | None = None,
        strength: float = 1.0,
        colour: tuple[int, int, int] = (0, 177, 64),
        opacity: float = 0.5,
        feather: float = 0.0,
    ) -> None:
        self.steps = effect.split(_ALONG)
        if len(self.steps) > _MOST_STEPS:
            raise ValueError(f"at most {_MOST_STEPS} effects go together, got {len(self.steps)}")
        for step in self.steps:
            if step not in EFFECTS:
                raise ValueError(f"unknown effect {step!r}; known are {', '.join(EFFECTS)}")
        if _ALPHA in self.steps[:-1]:
            raise ValueError(f"{_ALPHA} leaves nothing to draw on, so it comes last; got {effect!r}")
        if not 0 < strength <= 10 or not 0 <= opacity <= 1:
            raise ValueError(f"strength must be in 0..10 and opacity in 0..1, got {strength} and {opacity}")
        self.effect, self.names, self.colours = effect, names or {}, colours or {}
        self.strength, self.colour, self.opacity, self.feather = strength, colour, opacity, feather
        self.makes_alpha = self.steps[-1] == _ALPHA
        self.reset()

    def reset(self) -> None:
        """Forget where objects were."""
        self._trace: supervision.TraceAnnotator | None = None
        self._numbers: dict[Hashable, int] = {}

    def paint(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        """Apply the effect to one frame.

        Args:
            frame: uint8 [H, W, 3] RGB; left unchanged.
            masks: object id -> bool [H, W]; an object may be missing or empty.
        Returns:
            uint8 [H, W, 3] RGB, or [H, W, 4] with alpha for cut_out, whose hidden pixels are black.
        Raises:
            ValueError: if a mask does not fit the frame.
        """
        for object_id, mask in masks.items():
            if mask.shape != frame.shape[:2]:
                raise ValueError(
                    f"the mask of object {object_id} is {list(mask.shape)}, but the frame is {list(frame.shape[:2])}"
                )
        masks = {object_id: np.ascontiguousarray(m, np.uint8) for object_id, m in masks.items() if m.any()}
        painted = np.ascontiguousarray(frame)
        for step in self.steps:
            painted = getattr(self, f"_{step}")(painted, masks)
        return painted

    def _original(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        return frame.copy()

    # ---- drawing over objects --------------------------------------------------------------------------------

    def _overlay(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        drawn = draw_masks(frame, (m > 0 for m in masks.values()), map(self._number, masks), opacity=self.opacity)
        return self._named(drawn, masks)

    def _outline(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        scene = frame.copy()
        thickness = max(1, round(max(frame.shape[:2]) / 320 * self.strength))
        for object_id, mask in masks.items():
            contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(scene, contours, -1, colour_of(self._number(object_id)), thickness, cv2.LINE_AA)
        return self._named(scene, masks)

    def _trail(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        import supervision as sv

        scene = self._outline(frame, masks)
        if self._trace is None:
            thickness = max(2, round(max(frame.shape[:2]) / 250))
            by_track = {"trace_length": TRAIL_FRAMES, "thickness": thickness, "color_lookup": sv.ColorLookup.TRACK}
            self._trace = sv.TraceAnnotator(supervision_palette(), **by_track)
        centres = np.array([_centre(mask) for mask in masks.values()], np.float32).reshape(-1, 2)
        found = sv.Detections(np.tile(centres, 2), tracker_id=np.array([self._number(i) for i in masks], int))
        return self._trace.annotate(scene, found if masks else sv.Detections.empty())

    def _named(self, scene: np.ndarray, masks: Masks) -> np.ndarray:
        shown = [i for i in masks if self.names.get(i)]
        if not shown:
            return scene
        import supervision as sv

        boxes = np.array([_box_xyxy(masks[i]) for i in shown], np.float32)
        scale = max(0.4, max(scene.shape[:2]) / 1800)
        thickness, padding = max(1, round(scale * 1.5)), round(8 * scale)
        labels = sv.LabelAnnotator(
            supervision_palette(), sv.ColorLookup.TRACK, sv.Color.BLACK, scale, thickness, padding
        )
        found = sv.Detections(boxes, tracker_id=np.array([self._number(i) for i in shown], int))
        return labels.annotate(scene, found, labels=[self.names[i] for i in shown])

    def _number(self, object_id: Hashable) -> int:
        """Which colour: an object id that is a number is its own; others are counted as they come."""
        if object_id in self.colours:
            return self.colours[object_id]
        if isinstance(object_id, (int, np.integer)):
            return abs(int(object_id))
        return self._numbers.setdefault(object_id, len(self._numbers))

    # ---- hiding everything else ------------------------------------------------------------------------------

    def _spotlight(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        return self._inside(masks, frame, cv2.convertScaleAbs(frame, alpha=max(0.0, 1 - 0.72 * self.strength)))

    def _desaturate_background(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        return self._inside(masks, frame, cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))

    def _green_screen(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        return self._inside(masks, frame, np.full_like(frame, self.colour))

    def _cut_out(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        coverage = self._coverage(masks, frame.shape[:2])
        alone = np.zeros_like(frame)
        cv2.copyTo(frame, coverage, alone)
        return np.dstack([alone, coverage])

    def _blur_background(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        sigma = min(frame.shape[:2]) / 40 * self.strength
        return self._inside(masks, frame, _smooth(frame, sigma, _ground(masks, frame.shape[:2])))

    def _pixelate_background(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        side = round(min(frame.shape[:2]) / 25 * self.strength)
        return self._inside(masks, frame, _blocks(frame, side, _ground(masks, frame.shape[:2])))

    def _coverage(self, masks: Masks, size_hw: tuple[int, ...]) -> np.ndarray:
        """uint8 [H, W]: 255 where any object is."""
        return soft_mask(_union(masks, size_hw) > 0, self.feather)

    def _inside(self, masks: Masks, frame: np.ndarray, elsewhere: np.ndarray) -> np.ndarray:
        """The frame where any mask is, something else elsewhere; writes into the latter if edges are hard."""
        coverage = self._coverage(masks, frame.shape[:2])
        if self.feather:
            share = coverage[..., None].astype(np.float32) / 255
            return (frame * share + elsewhere * (1 - share) + 0.5).astype(np.uint8)
        cv2.copyTo(frame, coverage, elsewhere)
        return elsewhere

    # ---- hiding objects --------------------------------------------------------------------------------------

    def _blur_object(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        return _each_hidden(frame, masks, lambda part, length: _smooth(part, length / 4 * self.strength))

    def _pixelate_object(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        return _each_hidden(frame, masks, lambda part, length: _blocks(part, round(length / 5 * self.strength)))

    def _fill_object(self, frame: np.ndarray, masks: Masks) -> np.ndarray:
        scene = frame.copy()
        for object_id, mask in masks.items():
            scene[_widened(mask, _rim(mask.shape)) > 0] = colour_of(self._number(object_id))
        return scene


def _each_hidden(frame: np.ndarray, masks: Masks, hide: Callable[[np.ndarray, float], np.ndarray]) -> np.ndarray:
    """Hide what lies in each widened mask, by the object's shorter side: a number plate is as flat as its text."""
    scene = frame.copy()
    height, width = frame.shape[:2]
    for mask in masks.values():
        x0, y0, x1, y1 = _box_xyxy(mask)
        length = max(min(x1 - x0, y1 - y0), min(height, width) / 10)
        margin = max(1, round(length / 20))
        rows = slice(max(0, y0 - 2 * margin), min(height, y1 + 2 * margin))
        columns = slice(max(0, x0 - 2 * margin), min(width, x1 + 2 * margin))
        inside = _widened(mask[rows, columns], margin)
        cv2.copyTo(hide(frame[rows, columns], length), inside, scene[rows, columns])
    return scene


def _union(masks: Masks, size_hw: tuple[int, ...]) -> np.ndarray:
    """uint8 [H, W] of 0 and 1."""
    union = np.zeros(size_hw, np.uint8)
    for mask in masks.values():
        np.maximum(union, mask, out=union)
    return union


def _ground(masks: Masks, size_hw: tuple[int, ...]) -> np.ndarray:
    """uint8 [H, W]: 1 where no object is, nor the edge of one."""
    return 1 - _widened(_union(masks, size_hw), _rim(size_hw))


def _rim(size_hw: tuple[int, ...]) -> int:
    return max(1, round(min(size_hw) / 250))


def _widened(mask: np.ndarray, pixels: int) -> np.ndarray:
    """uint8 of 0 and 1, grown by some pixels."""
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1)))


def _box_xyxy(mask: np.ndarray) -> tuple[int, int, int, int]:
    x, y, width, height = cv2.boundingRect(mask)
    return x, y, x + width, y + height


def _centre(mask: np.ndarray) -> tuple[float, float]:
    moments = cv2.moments(mask, binaryImage=True)
    return moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]


def _smooth(image: np.ndarray, sigma: float, where: np.ndarray | None = None) -> np.ndarray:
    """Blur, worked out on a smaller picture; with `where`, each pixel is a mean of only the pixels where it is 1."""
    factor = max(1.0, sigma / 3)
    size_wh, sigma = _smaller(image, factor), max(0.5, sigma / factor)
    if where is None:
        small = cv2.GaussianBlur(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), (0, 0), sigma)
    else:
        colours, share = _mean_where(image, where, size_wh)
        weight = cv2.GaussianBlur(share, (0, 0), sigma)
        small = cv2.GaussianBlur(colours * share[..., None], (0, 0), sigma) / np.maximum(weight, 1e-4)[..., None]
        small = np.clip(small, 0, 255).astype(np.uint8)
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _blocks(image: np.ndarray, side: int, where: np.ndarray | None = None) -> np.ndarray:
    """Squares of one colour; with `where`, the mean of only the pixels where it is 1."""
    size_wh = _smaller(image, max(2, side))
    if where is None:
        small = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)
    else:
        small = _mean_where(image, where, size_wh)[0].astype(np.uint8)
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def _smaller(image: np.ndarray, factor: float) -> tuple[int, int]:
    height, width = image.shape[:2]
    return max(1, round(width / factor)), max(1, round(height / factor))


def _mean_where(image: np.ndarray, where: np.ndarray, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """float32 [h, w, 3] means of the pixels where `where` is 1, and float32 [h, w] their share."""
    kept = np.zeros_like(image)
    cv2.copyTo(image, where, kept)
    # INTER_AREA rounds bytes; the sum of a dark sliver would be lost
    sums = cv2.resize(kept.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)
    share = cv2.resize(where.astype(np.float32), size_wh, interpolation=cv2.INTER_AREA)
    return np.where(share[..., None] > 1e-4, sums / np.maximum(share, 1e-4)[..., None], 0), share
