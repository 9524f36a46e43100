"""The timeline of a clip: one row per object, one column per frame, so that a person sees where to look.

Pure functions: states (predict/tracking_quality.py) -> a small picture per row -> HTML. The height of a bar says the
state, so that nobody has to tell colours apart.

    full bar   present        low line   lost: the model says that the object is not in the picture
    half bar   uncertain      nothing    not tracked yet              a diamond: prompted here
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sam2kit.media.drawing import LOST_COLOUR, colour_of, rgb
from sam2kit.media.mask_files import png_bytes
from sam2kit.predict.tracking_quality import LOST, PRESENT, UNCERTAIN, UNTRACKED, where_to_help

MAX_COLUMNS = 600
_BAR_HEIGHT = 12  # pixels
_LOST_LINE = 3  # pixels
_MAX_DIAMONDS = 60  # per row; more would cover the bar
_LEGEND = (
    "Tracking quality: full bar: present · half: uncertain · red line: lost · empty: not tracked · ◆ prompted. Click a "
    "row to go to that frame."
)
# a click on a row triggers the event `jump` with its place along the row; where it is pressed counts, as rows may be
# drawn anew before it is released
SCRIPT = """
let share = null;
element.addEventListener('click', (e) => {
  const help = e.target.closest('.help button');
  if (help) trigger('jump', { place: Number(help.dataset.place), number: Number(help.dataset.number) });
});
element.addEventListener('pointerdown', (e) => {
  const box = e.target.closest('.bars')?.getBoundingClientRect();
  share = box ? (e.clientX - box.left) / box.width : null;
});
element.addEventListener('pointercancel', () => { share = null; });
element.addEventListener('pointerup', () => {
  if (share !== null) trigger('jump', { share });
  share = null;
});
"""


@dataclass(frozen=True)
class TimelineRow:
    """One object; places count the frames that are worked on, from 0."""

    name: str
    number: int  # of the object
    colour: int  # what `colour_of` makes its colour of
    states: np.ndarray  # uint8 [T], see `sam2kit.predict.tracking_quality`
    prompted: Sequence[int]  # places with prompts
    corrected: Sequence[int] = ()  # those of them that are newer than the tracking


def column_states(states: np.ndarray, columns: int = MAX_COLUMNS) -> np.ndarray:
    """At most `columns` values; where frames share a column, the worst is shown."""
    if len(states) <= columns:
        return states
    return np.maximum.reduceat(states, np.arange(columns) * len(states) // columns)


def place_at_share(share: float, frames: int) -> int:
    """The place of the frame under a click, from where it is along a row in 0..1."""
    return min(max(int(share * frames), 0), frames - 1)


def row_picture(states: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """uint8 [_BAR_HEIGHT, columns, 4] RGBA of one row."""
    columns = column_states(states)
    picture = np.zeros((_BAR_HEIGHT, len(columns), 4), np.uint8)
    picture[:, columns == PRESENT] = (*colour, 255)
    picture[_BAR_HEIGHT // 2 :, columns == UNCERTAIN] = (*colour, 255)
    picture[-_LOST_LINE:, columns == LOST] = (*rgb(LOST_COLOUR), 255)
    return picture


def timeline_html(rows: Sequence[TimelineRow], place: int, frames: range | None = None) -> str:
    """The timeline as HTML.

    Args:
        rows: of the objects.
        place: of the frame that is shown, which gets a mark.
        frames: of the clip, those that the places count; with them, buttons go where a correction would help most.
    """
    shown = "".join(_row_html(row, place) for row in rows)
    helps = "" if frames is None else _help_html({row.number: row for row in rows}, frames)
    return f'<div class="timeline"><div class="rows">{shown}</div><div class="legend">{_LEGEND}</div>{helps}</div>'


def _help_html(rows: Mapping[int, TimelineRow], frames: range) -> str:
    states = {number: row.states for number, row in rows.items()}
    corrected = {number: row.corrected for number, row in rows.items()}
    found = where_to_help(states, {number: row.prompted for number, row in rows.items()}, corrected)
    if not found and any(corrected.values()):
        return help_html("Track again to see where else a correction would help.")
    if not found:
        bad = sum(int(np.isin(known, (UNCERTAIN, LOST)).sum()) for known in states.values())
        left = f"the {bad} that are uncertain or lost lie apart" if bad else "no frame is uncertain or lost"
        return help_html(f"More corrections would hardly pay: {left}.")
    buttons = (
        (number, place, f"{rows[number].name}, frame {frames[place]}", f"Up to {count} uncertain or lost frames")
        for number, place, count in found
    )
    return help_html("A correction would help most here: ", buttons)


def help_html(sentence: str, buttons: Iterable[tuple[int, int, str, str]] = ()) -> str:
    """HTML of what to do next; where SCRIPT runs, a button (number, place, label, title) triggers `jump` with both."""
    shown = "".join(
        f'<button data-number="{number}" data-place="{place}" title="{title}">{html.escape(label)}</button>'
        for number, place, label, title in buttons
    )
    return f'<div class="help">{sentence}{shown}</div>'


def _row_html(row: TimelineRow, place: int) -> str:
    def middle(at: int) -> str:
        return f'style="left:{100 * (at + 0.5) / len(row.states):.3f}%"'

    red, green, blue = colour = colour_of(row.colour)
    png = base64.b64encode(png_bytes(Image.fromarray(row_picture(row.states, colour)))).decode()
    prompted = row.prompted if len(row.prompted) <= _MAX_DIAMONDS else ()
    diamonds = "".join(f"<b {middle(at)}>◆</b>" for at in prompted)
    return (
        f'<div class="row"><span class="name"><i style="background:rgb({red},{green},{blue})"></i>'
        f'{html.escape(row.name)}</span><div class="bars"><img alt="{_summary(row.states)}" '
        f'src="data:image/png;base64,{png}">{diamonds}<u {middle(place)}></u></div>'
        "</div>"
    )


def _summary(states: np.ndarray) -> str:
    counts = np.bincount(states, minlength=4)
    quality = f"{counts[PRESENT]} present, {counts[UNCERTAIN]} uncertain, {counts[LOST]} lost"
    return f"{quality}, {counts[UNTRACKED]} not tracked"
