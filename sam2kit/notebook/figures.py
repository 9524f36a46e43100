"""Figures of pictures, clips and their masks; and what all figures share: panels, plots, checks of what is shown.

Figures are closed for pyplot: a notebook shows what a cell returns, and would draw an open one a second time. Each
`width` is that of the figure, in inches. Where there is nothing to show, or what is given does not go together, a
ValueError says which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from sam2kit.media.drawing import LOST_COLOUR, PALETTE, draw_masks, draw_prompts, supervision_palette
from sam2kit.predict.session import Session
from sam2kit.predict.tracking_quality import LOST, PRESENT, UNCERTAIN, USUAL, QualityLimits, tracking_quality

if TYPE_CHECKING:
    import supervision
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 60  # of figures with pictures and diagrams, whose notebooks stay small so
_TITLE, _LEGEND = 0.32, 0.33  # inches
_FULL = 0.7  # height of a bar
_BARS = {  # state -> height and meaning
    PRESENT: (_FULL, "full: present"),
    UNCERTAIN: (0.35, "half: uncertain"),
    LOST: (0.1, "low: lost"),
}


def as_array(values: ArrayLike | Tensor) -> np.ndarray:
    """Numbers as an array, from whichever device and in whichever precision they come."""
    if not isinstance(values, Tensor):
        return np.asarray(values)
    return (values.detach().float() if values.is_floating_point() else values).cpu().numpy()


def check_counts(what: str, wanted: int, **given: Sized | None) -> None:
    """Raises ValueError if there is nothing to show, or there is not one of everything that was given for each."""
    if not wanted:
        raise ValueError(f"there are no {what} to show; give at least one")
    for name, values in given.items():
        if values is not None and len(values) != wanted:
            raise ValueError(f"{wanted} {what} want as many {name}, got {len(values)}")


def new_figure(size: tuple[float, float], dpi: int = 80, **options: Any) -> tuple[Figure, Any]:
    """A figure of a size in inches, and its plot or, with options of `pyplot.subplots`, its plots."""
    from matplotlib import pyplot

    figure, plots = pyplot.subplots(figsize=size, dpi=dpi, layout="constrained", **options)
    pyplot.close(figure)
    return figure, plots


def panels(
    pictures: Sequence[np.ndarray],
    titles: Sequence[str] | None,
    columns: int,
    width: float,
    legend: Mapping[str, str] | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for every picture, in rows that are as high as their highest one.

    Args:
        pictures: uint8 [H, W, 3] each, of any sizes; of numbers [H, W], only the size counts: they are not drawn.
        columns: panels side by side, at most.
        legend: name -> colour, below all panels.
    """
    from matplotlib.patches import Patch

    columns = min(columns, len(pictures))
    slopes = [picture.shape[0] / picture.shape[1] for picture in pictures]
    highest = [max(slopes[i : i + columns]) for i in range(0, len(slopes), columns)]
    height = sum(width / columns * slope + _TITLE for slope in highest) + (0 if legend is None else _LEGEND)
    layout = {"nrows": len(highest), "ncols": columns, "squeeze": False, "height_ratios": highest}
    figure, grid = new_figure((width, height), DPI, **layout)
    for axis in grid.flat:
        axis.set_axis_off()
    axes = list(grid.flat)[: len(pictures)]
    for axis, picture, title in zip(axes, pictures, [""] * len(axes) if titles is None else titles, strict=True):
        axis.set_title(title)
        if picture.ndim == 3:
            axis.imshow(picture)
    if legend is not None:
        handles = [Patch(color=colour, label=name) for name, colour in legend.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=max(len(handles), 1))
    return figure, axes


def show_masks(
    image: np.ndarray,
    masks: Sequence[ArrayLike] | Tensor,
    titles: Sequence[str] | None = None,
    *,
    points: Sequence[tuple[float, float, int]] = (),
    box_xyxy: Sequence[float] | None = None,
    together: bool = False,
    width: float = 10.0,
) -> Figure:
    """Show masks over a picture, one panel each.

    Args:
        image: uint8 [H, W, 3] RGB.
        masks: bool [H, W] each, arrays or tensors of any device.
        titles: one per panel.
        points: clicks (x, y, label) to mark in every panel.
        box_xyxy: a box to draw in every panel.
        together: all masks in one panel, each in its own colour.
    """
    arrays = [as_array(mask) for mask in masks]
    check_counts("masks", len(arrays))
    shown = [arrays] if together else [[mask] for mask in arrays]
    check_counts("panels", len(shown), titles=titles)
    scenes = [draw_prompts(draw_masks(image, some, range(len(some))), points, box_xyxy) for some in shown]
    return panels(scenes, titles, len(scenes), width)[0]


def show_sheet(
    pictures: Sequence[np.ndarray],
    masks: Sequence[Sequence[ArrayLike] | Tensor] | None = None,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 4,
    width: float = 10.0,
) -> Figure:
    """Show many pictures with their masks: a contact sheet.

    Args:
        pictures: uint8 [H, W, 3] RGB each, of any sizes.
        masks: for each picture, its masks bool [H, W], arrays or tensors; None shows the pictures alone.
        titles: one per picture.
        columns: pictures side by side, at most.
    """
    check_counts("pictures", len(pictures), masks=masks, titles=titles)
    pairs = zip(pictures, [()] * len(pictures) if masks is None else masks, strict=True)
    scenes = [draw_masks(picture, map(as_array, found), range(len(found))) for picture, found in pairs]
    return panels(scenes, titles, columns, width)[0]


def annotate(
    image: np.ndarray,
    detections: supervision.Detections,
    labels: Sequence[str] | None = None,
    *,
    opacity: float = 0.5,
) -> np.ndarray:
    """Draw masks, boxes and labels over a picture.

    An object has the colour of its number, where `tracker_id` says that (from 1), so that it keeps it through a clip;
    else of its place among the detections.

    Args:
        image: uint8 [H, W, 3] RGB; left unchanged.
        detections: of `to_detections()`, or of anything else.
        labels: a text for each detection.
        opacity: of the masks, 0..1.
    Returns:
        uint8 [H, W, 3] RGB.
    """
    import supervision as sv

    if labels is not None and len(labels) != len(detections):
        raise ValueError(f"{len(detections)} detections want as many labels, got {len(labels)}")
    palette, scale = supervision_palette(), max(image.shape[:2]) / 1000
    ids = detections.tracker_id
    numbers = np.arange(len(detections)) if ids is None else ids.astype(int) - 1
    boxes = sv.BoxAnnotator(palette, thickness=max(1, round(2 * scale)))
    scene = boxes.annotate(image.copy(), detections, custom_color_lookup=numbers)
    if detections.mask is not None:
        scene = sv.MaskAnnotator(palette, opacity).annotate(scene, detections, custom_color_lookup=numbers)
    if labels is None:
        return scene
    writer = sv.LabelAnnotator(
        palette,
        text_color=sv.Color.BLACK,
        text_scale=max(0.4, 0.6 * scale),
        text_thickness=max(1, round(scale)),
        text_padding=max(2, round(6 * scale)),
        smart_position=True,  # within the picture, and not over each other
    )
    return writer.annotate(scene, detections, labels=list(labels), custom_color_lookup=numbers)


def show_strip(session: Session, frames: Iterable[int], *, columns: int = 4, width: float = 10.0) -> Figure:
    """Show frames of a clip with what is known of them: masks, and the clicks and boxes that were given there.

    Args:
        session: with some answers; nothing is tracked.
        frames: which ones.
        columns: frames side by side, at most.
    """
    numbers = [session.checked_frame(frame) for frame in frames]
    check_counts("frames", len(numbers))
    legend = {str(name): PALETTE[i % len(PALETTE)] for i, name in enumerate(session.object_ids)}
    titles = [f"frame {number}" for number in numbers]
    return panels([_drawn(session, number) for number in numbers], titles, columns, width, legend)[0]


def _drawn(session: Session, frame: int) -> np.ndarray:
    known = session.masks(frame)
    scene = draw_masks(session.clip.frame(frame), known.masks, (number - 1 for number in known.numbers))
    for track in session.objects.values():
        prompt = track.prompts.get(frame)
        if prompt is not None:
            points = [(*xy, label) for xy, label in zip(prompt.points_xy, prompt.labels, strict=True)]
            scene = draw_prompts(scene, points, prompt.box_xyxy)
    return scene


def show_presence(session: Session, limits: QualityLimits = USUAL, *, width: float = 10.0) -> Figure:
    """Show on which frames each object is present, uncertain or lost: a lane for each, so that you see where to look.

    Args:
        session: tracked as far as it may be; frames without an answer stay empty.
        limits: when a frame counts as uncertain.
    """
    from matplotlib.patches import Patch

    states = tracking_quality(session, limits)
    if not states:
        raise ValueError("there is no object whose presence could be shown; prompt one")
    middles = [lane + _FULL / 2 for lane in range(len(states))]
    figure, plot = new_figure((width, 0.45 * len(states) + 0.9), 70)
    for lane, (object_id, row) in enumerate(states.items()):
        for state, (height, _) in _BARS.items():
            colour = LOST_COLOUR if state == LOST else PALETTE[lane % len(PALETTE)]
            here = np.flatnonzero(row == state)
            plot.bar(here, height, bottom=lane + _FULL - height, width=1.0, color=colour)  # the axis goes down
        prompted = sorted(session.object(object_id).prompts)
        plot.plot(prompted, [middles[lane]] * len(prompted), "D", color="black", markersize=6, markeredgecolor="white")
    plot.set_yticks(middles, [str(object_id) for object_id in states])
    gap = (1 - _FULL) / 2
    plot.set(xlabel="frame", xlim=(-0.5, len(session) - 0.5), ylim=(len(states) - gap, -gap))
    handles: list[Artist] = [
        Patch(color=LOST_COLOUR if s == LOST else "#888888", label=text) for s, (_, text) in _BARS.items()
    ]
    handles += plot.plot([], [], "D", color="black", markeredgecolor="white", label="prompted")
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize="small")
    return figure
