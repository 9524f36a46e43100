"""The health strip: one row per object, one column per frame, so that a person sees where to look.

Pure functions: states (predict/health.py) -> a small picture per row -> HTML. The height of a bar says the state,
so that nobody has to tell colours apart.

    full bar   present        low line   lost: the model says that the object is not in the picture
    half bar   uncertain      nothing    not tracked yet              a diamond: prompted here
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from sam2kit.media.drawing import LOST_COLOUR, colour_of, rgb
from sam2kit.predict.health import DOUBTFUL, LOST, PRESENT, UNTRACKED

MAX_COLUMNS = 600
_BAR_HEIGHT = 12  # pixels
_LOST_LINE = 3  # pixels
_MAX_DIAMONDS = 60  # per row; more would cover the bar


def column_states(states: np.ndarray, columns: int = MAX_COLUMNS) -> np.ndarray:
    """At most `columns` values; where frames share a column, the worst is shown."""
    if len(states) <= columns:
        return states
    return np.maximum.reduceat(states, np.arange(columns) * len(states) // columns)


def frame_at_share(share: float, frames: int) -> int:
    """The frame under a click, from its place along the strip in 0..1."""
    return min(max(int(share * frames), 0), frames - 1)


def row_picture(states: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """uint8 [_BAR_HEIGHT, columns, 4] RGBA of one row."""
    columns = column_states(states)
    picture = np.zeros((_BAR_HEIGHT, len(columns), 4), np.uint8)
    picture[:, columns == PRESENT] = (*colour, 255)
    picture[_BAR_HEIGHT // 2 :, columns == DOUBTFUL] = (*colour, 255)
    picture[-_LOST_LINE:, columns == LOST] = (*rgb(LOST_COLOUR), 255)
    return picture


def health_html(
    states: Mapping[int, np.ndarray],
    prompted: Mapping[int, Sequence[int]],
    names: Mapping[int, str],
    frame: int,
    colours: Mapping[int, int] | None = None,
) -> str:
    """The strip as HTML; a click on an element of class "bars" is a click on a frame.

    Args:
        states: object number -> uint8 [T], see `sam2kit.predict.health`.
        prompted: object number -> frames with prompts.
        names: object number -> name.
        frame: the one that is shown.
        colours: object number -> what `colour_of` makes its colour of; others have that of their number.
    """
    rows = []
    for number, row in states.items():
        red, green, blue = colour = colour_of((colours or {}).get(number, number))
        asked = prompted.get(number, ())
        shown = asked if len(asked) <= _MAX_DIAMONDS else ()
        diamonds = "".join(f'<b style="left:{_middle(f, len(row)):.3f}%">◆</b>' for f in shown)
        rows.append(
            f'<div class="row"><span class="name"><i style="background:rgb({red},{green},{blue})"></i>'
            f'{html.escape(names.get(number, ""))}</span><div class="bars"><img alt="{_summary(row)}" '
            f'src="data:image/png;base64,{_png(row_picture(row, colour))}">{diamonds}'
            f'<u style="left:{_middle(frame, len(row)):.3f}%"></u></div></div>'
        )
    legend = (
        '<div class="legend">Tracking quality: full bar: present · half: uncertain · red line: lost · '
        "empty: not tracked · ◆ prompted. Click a row to go to that frame.</div>"
    )
    return f'<div class="health"><div class="rows">{"".join(rows)}</div>{legend}</div>'


def _middle(frame: int, frames: int) -> float:
    return 100 * (frame + 0.5) / frames


def _summary(row: np.ndarray) -> str:
    counts = np.bincount(row, minlength=4)
    return (
        f"{counts[PRESENT]} present, {counts[DOUBTFUL]} uncertain, {counts[LOST]} lost, {counts[UNTRACKED]} not tracked"
    )


def _png(picture: np.ndarray) -> str:
    packed, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))
    assert packed, "OpenCV packs every picture of bytes"
    return base64.b64encode(png.tobytes()).decode()
