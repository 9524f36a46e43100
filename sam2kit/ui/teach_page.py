"""What the Fine-tune tab's handlers hand back, and what its results look like."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import gradio as gr
import numpy as np

from sam2kit.clicking.messages import jpeg_url
from sam2kit.clicking.object_list import ListedObject, list_message
from sam2kit.clicking.views import scaled
from sam2kit.media.drawing import PALETTE, draw_masks, draw_prompts
from sam2kit.ui.image_page import page_beside, scene_of
from sam2kit.ui.teach_run import MEASURES
from sam2kit.ui.teach_work import TeachWork

if TYPE_CHECKING:
    from sam2kit.evaluation.side_by_side import Comparison

CURVE_COLOURS = {"loss": "#8a8f98", "1 click": PALETTE[5], "3 clicks": PALETTE[1], "box": PALETTE[2]}
CHOOSE = "Drop or add some photos of the objects to fine-tune on: four are a start, ten are better."
SKIP = gr.skip()
_PANEL = 300  # pixels, the longer side of a compared picture


class TeachPage(NamedTuple):
    """One update for each part of the tab that handlers change; those left out stay as they are."""

    upload: Any = SKIP
    photos: Any = SKIP
    before: Any = SKIP
    after: Any = SKIP
    view: Any = SKIP
    status: Any = SKIP
    objects: Any = SKIP
    candidates: Any = SKIP
    new_object: Any = SKIP
    undo: Any = SKIP
    aside: Any = SKIP
    train: Any = SKIP
    stop: Any = SKIP
    progress: Any = SKIP
    curve: Any = SKIP
    results: Any = SKIP
    choice: Any = SKIP
    done: Any = SKIP


def photos_message(work: TeachWork) -> dict[str, Any]:
    """The strip of photos."""
    tests = set(work.test_photos())
    rows = []
    for number, photo in enumerate(work.photos):
        count = work.object_count(number)
        words = f"{count} {'object' if count == 1 else 'objects'}" if count else "no object yet"
        note = f"{words} · held out" if number in tests else words
        rows.append(ListedObject(number, photo.file_name, note, work.thumbnail(number)))
    return list_message(rows, work.current)


def page_beside_photo(work: TeachWork) -> TeachPage:
    """What changes with a click, but for the photo, which follows by itself."""
    beside = page_beside(work.photo, None)
    return TeachPage(
        photos=photos_message(work),
        status=work.says(),
        objects=beside.objects,
        candidates=beside.candidates,
        new_object=gr.update(interactive=True),
        undo=gr.update(interactive=bool(work.photo.past)),
        aside=gr.update(value=work.current in work.test_photos(), interactive=True),
        train=gr.update(interactive=work.run is None and work.ready() is None),
    )


def page_of_photo(work: TeachWork, key: str, *, plain: bool) -> TeachPage:
    """Everything about the photos."""
    if not work.photos:
        return empty_page()
    view = work.photo.draw() if plain else scene_of(work.photo, key)
    several = gr.update(interactive=len(work.photos) > 1)
    return page_beside_photo(work)._replace(
        upload=gr.update(value=None, visible="hidden"),  # empty, so that more photos may be dropped
        before=several,
        after=several,
        view=gr.update(value=view, visible=True),
    )


def empty_page() -> TeachPage:
    """The tab without photos."""
    off = gr.update(interactive=False)
    return TeachPage(
        upload=gr.update(value=None, visible=True), photos=None, before=off, after=off,
        view=gr.update(value=None, visible=False), status=CHOOSE, objects=None, candidates=None, new_object=off,
        undo=off, aside=gr.update(value=False, interactive=False), train=off,
    )  # fmt: skip


def curve_update(rows: Sequence[dict[str, float | str]]) -> Any:
    """The curve with these points; nothing is shown before the first training step.

    The plot keeps the lines that it begins with: one that came later would not be drawn.
    """
    import pandas  # comes with gradio

    if not any(row["measure"] == "loss" for row in rows):
        return SKIP
    return gr.update(value=pandas.DataFrame(rows, columns=["minutes", "value", "measure"]), visible=True)


def results_html(comparisons: Sequence[Comparison], before: dict[str, float], after: dict[str, float]) -> str:
    """Numbers and pictures, before and after."""
    rows = []
    for name, words in MEASURES.items():
        if name in before and name in after:
            change = 100 * (after[name] - before[name])
            better = "better" if change > 0 else "worse"
            rows.append(
                f"<tr><td>{words}</td><td>{100 * before[name]:.1f}</td><td>{100 * after[name]:.1f}</td>"
                f'<td class="{better}">{change:+.1f}</td></tr>'
            )
    table = (
        "<table><thead><tr><th>mIoU on the held-out photos, in percent</th><th>before</th><th>after</th><th></th></tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
    )
    return f'<div class="teach-results">{table}{"".join(map(_compared, comparisons))}</div>'


def _compared(comparison: Comparison) -> str:
    truths = comparison.truths
    panels = [
        _panel(comparison.image, truths, (), "true masks"),
        _panel(comparison.image, [m.mask for m in comparison.before], [m.point_xy for m in comparison.before],
               f"before: {100 * comparison.mean_before:.0f} %"),
        _panel(comparison.image, [m.mask for m in comparison.after], [m.point_xy for m in comparison.after],
               f"after: {100 * comparison.mean_after:.0f} %"),
    ]  # fmt: skip
    return f"<figure><figcaption>{html.escape(comparison.name)}</figcaption><div>{''.join(panels)}</div></figure>"


def _panel(image: np.ndarray, masks: Sequence[np.ndarray], points: Sequence[tuple[float, float]], says: str) -> str:
    small = scaled(image, min(_PANEL, max(image.shape[:2])))
    size_wh, scale = small.shape[1::-1], small.shape[1] / image.shape[1]
    resized = (cv2.resize(m.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST) > 0 for m in masks)
    drawn = draw_masks(small, resized, range(len(masks)))
    drawn = draw_prompts(drawn, [(x * scale, y * scale, 1) for x, y in points])
    return f'<div><img alt="{html.escape(says)}" src="{jpeg_url(drawn)}"><span>{html.escape(says)}</span></div>'
