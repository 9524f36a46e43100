"""Detections over a picture, by supervision's annotators in our colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sam2kit.media.drawing import supervision_palette

if TYPE_CHECKING:
    import supervision


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
    Raises:
        ValueError: if there is not a label for each detection.
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
