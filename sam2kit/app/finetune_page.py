"""What the Fine-tune tab looks like: its parts, how a visitor's work fills them, and what each event calls."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr

from sam2kit.app.canvas import list_message, object_message
from sam2kit.app.components import (
    click_canvas,
    fetched,
    follow,
    hidden_file,
    objects_and_candidates,
    standalone_list,
)
from sam2kit.app.editor import GESTURES
from sam2kit.app.finetune_run import MEASURES, PREDICTIONS, FinetuneRun
from sam2kit.app.finetune_work import PHOTO_GESTURES, FinetuneWork
from sam2kit.app.timeline import SCRIPT, help_html
from sam2kit.data.sample import counted
from sam2kit.media.drawing import PALETTE
from sam2kit.model_card import found_words

if TYPE_CHECKING:
    from sam2kit.app.finetune_tab import FinetuneTab

SKIP = gr.skip()
FOLLOWING = ("photos", "status", "new_object", "undo", "aside", "train", "next_photos")
_SURE, _MOST_NEXT = 0.7, 3  # mean score from which labelling a photo would hardly pay; photos that are offered
_CHOOSE = "Drop or add some photos of the objects to fine-tune on: four are a start, ten are better."
_CURVE_COLOURS = {"loss": "#8a8f98", "1 click": PALETTE[5], "3 clicks": PALETTE[1], "box": PALETTE[2]}
_RECIPES = [
    ("Mask decoder: fastest; for objects like everyday ones", "decoder"),
    ("LoRA: the image encoder, too; for unusual pictures", "lora"),
]
_DOWNLOADS = {"model": "The latest model", "data": "All labelled photos"}
_KEYS = {
    "u": ("#finetune-undo", "undo"),
    "n": ("#finetune-new", "new object"),
    "ArrowLeft": ("#finetune-before", "previous photo"),
    "ArrowRight": ("#finetune-after", "next photo"),
}

FINETUNE_CSS = """
#finetune-photos .sk-objects { flex-direction: row; flex-wrap: wrap; max-height: 190px; }
#finetune-photos .sk-object { flex: 0 1 215px; border-left: 1px solid var(--border-color-primary); }
#finetune-photos .sk-rename { display: none; }
#finetune-photos img { width: 56px; height: 44px; }
#finetune-next { --block-padding: 0; }
#finetune-next:not(:has(.help)):not(:has(.progress)) { display: none; }
.finetune-results table { margin-bottom: 12px; }
.finetune-results td, .finetune-results th { padding: 3px 12px; text-align: right; }
.finetune-results td:first-child, .finetune-results th:first-child { text-align: left; }
.finetune-results .better { color: #00875a; font-weight: 600; }
.finetune-results .worse { color: #c2410c; font-weight: 600; }
.finetune-results figure { margin: 0; }
.finetune-results img { max-width: 100%; border-radius: 6px; margin: 0; }
"""


class FinetunePage(NamedTuple):
    """One update for each part of the tab that handlers change; those left out stay as they are."""

    upload: Any = SKIP
    photos: Any = SKIP
    before: Any = SKIP
    after: Any = SKIP
    view: Any = SKIP
    status: Any = SKIP
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
    next_photos: Any = SKIP  # where labelling would help most, or how far the search for that is
    find: Any = SKIP
    find_next: Any = SKIP
    stop_find: Any = SKIP

    @property
    def following(self) -> list[Any]:
        """What an answer of the canvas brings along for the parts that FOLLOWING names."""
        return [getattr(self, name) for name in FOLLOWING]


def page_beside_photo(work: FinetuneWork, model: str) -> FinetunePage:
    """What changes with a click, but for the photo, which follows by itself; `model` is the one that answers."""
    photo = work.photo
    return FinetunePage(
        photos=_photos_message(work),
        status=work.status(),
        new_object=gr.update(interactive=True),
        undo=gr.update(interactive=photo.editor.can_undo),
        aside=gr.update(value=photo in work.held_out(), interactive=True),
        train=gr.update(interactive=work.ready() is None),
        next_photos=next_photos_html(work, model),
    )


def next_photos_html(work: FinetuneWork, model: str) -> str:
    """Which photos to label next, as far as the model of this name has looked at them; empty where it has not."""
    known = work.least_sure(model)
    unsure = [(number, score) for number, score in known if score < _SURE][:_MOST_NEXT]
    if not known:
        looked_at = any(model in photo.scores for photo in work.photos)
        return help_html("These photos have objects now: train again.") if looked_at else ""
    if not unsure:
        return help_html(f"Labelling more would hardly pay: mean scores are at least {known[0][1]:.2f}.")
    about = "Mean score of what the model finds there"
    labels = ((number, f"score {score:.2f}" if score else "nothing found") for number, score in unsure)
    buttons = ((number, 0, f"{work.photos[number].file_name}: {label}", about) for number, label in labels)
    return help_html("Labelling would help most here: ", buttons)


def page_of_photo(work: FinetuneWork, key: str, model: str) -> FinetunePage:
    """Everything about the photos."""
    several = gr.update(interactive=len(work.photos) > 1)
    return page_beside_photo(work, model)._replace(
        upload=gr.update(value=None, visible="hidden"),  # empty, so that more photos may be dropped
        before=several,
        after=several,
        view=gr.update(value=work.photo.editor.scene(key), visible=True),
    )


def empty_page() -> FinetunePage:
    """The tab without photos."""
    off = gr.update(interactive=False)
    return FinetunePage(
        upload=gr.update(value=None, visible=True), photos=None, before=off, after=off,
        view=gr.update(value=None, visible=False), status=_CHOOSE, new_object=off,
        undo=off, aside=gr.update(value=False, interactive=False), train=off, next_photos="",
    )  # fmt: skip


def _photos_message(work: FinetuneWork) -> dict[str, Any]:
    """The strip of photos."""
    held_out, rows = work.held_out(), []
    for number, photo in enumerate(work.photos):
        count = len(photo.labels())
        note = (counted(count, "object") if count else "no object yet") + " · held out" * (photo in held_out)
        rows.append(object_message(number, photo.file_name, note=note, thumbnail=photo.thumbnail()))
    return list_message(rows, work.current)


def curve_update(rows: Sequence[dict[str, float | str]]) -> Any:
    """The curve with these points; nothing is shown before the first training step.

    The plot keeps the lines that it begins with: one that came later would not be drawn.
    """
    import pandas  # comes with gradio

    if not any(row["measure"] == "loss" for row in rows):
        return SKIP
    return gr.update(value=pandas.DataFrame(rows, columns=["minutes", "value", "measure"]), visible=True)


def results_html(run: FinetuneRun) -> str:
    """The numbers before and after, and the picture of both models' masks, if there is one."""
    assert run.result is not None, "only runs that left a model are shown"
    result, predictions = run.result, run.plan.out / PREDICTIONS
    before, after = result.before, result.after
    rows = ""
    for name, words in MEASURES.items():
        if name in before and name in after:
            change, known = 100 * (after[name] - before[name]), result.intervals.get(name, {})
            low, high = (100 * end for end in known.get("change", (0.0, 0.0)))
            between = f" <small>({low:+.1f} to {high:+.1f})</small>" if "change" in known else ""
            rows += (
                f"<tr><td>{words}</td><td>{100 * before[name]:.1f}</td><td>{100 * after[name]:.1f}</td>"
                f'<td class="{"better" if change > 0 else "worse"}">{change:+.1f}{between}</td></tr>'
            )
    titles = "<th>mIoU on the held-out photos, in percent</th><th>before</th><th>after</th><th>change</th>"
    sentences = (result.held_out, result.verdict, found_words(result.found), *result.notes)
    about = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences if sentence)
    shown = ""
    if predictions.exists():
        url = f"data:image/jpeg;base64,{b64encode(predictions.read_bytes()).decode()}"
        shown = f'<figure><img alt="Held-out photos: true masks, before, after" src="{url}"></figure>'
    return f'<div class="finetune-results"><table><tr>{titles}</tr>{rows}</table>{about}{shown}</div>'


def build_finetune_tab(tab: FinetuneTab, key: gr.State, choice: gr.Dropdown, answering: gr.State) -> list[Any]:
    """Lay the tab out inside the current Blocks and wire it; returns what a FinetunePage updates.

    Args:
        choice: the page's choice among models, to which fine-tuned ones are added.
        answering: name of the model that answers; changes when another one does.
    """

    def button(label: str, name: str, min_width: int = 80, **options: Any) -> gr.Button:
        return gr.Button(label, size="sm", elem_id=f"finetune-{name}", min_width=min_width, **options)

    gr.Markdown(
        "**1** Add photos. **2** Click their objects, correct the masks. **3** Train; about a quarter of "
        "the photos is held out for evaluation. **4** Compare, then use it in all tabs.",
        elem_id="finetune-steps",
    )
    with gr.Row():
        upload = gr.UploadButton(
            "Add photos", file_count="multiple", file_types=["image"], size="sm", elem_id="finetune-add",
            min_width=120, variant="primary",
        )  # fmt: skip
        examples = button("Use the example photos", "examples", 120)
        before = button("◂ Previous photo", "before", interactive=False)
        after = button("Next photo ▸", "after", interactive=False)
    photos = standalone_list("finetune-photos", "photo")
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            # also what is dropped or pasted anywhere on the page while this tab is open
            drop_zone = gr.File(
                file_count="multiple", elem_id="finetune-upload", label="Photos to fine-tune on", height=320, buttons=[]
            )
            view = click_canvas(
                tab.ask, tab.preview, name="finetune", label="The photo to label; click on things", keys=_KEYS,
                height=0.56,
            )  # fmt: skip
            status = gr.Markdown(_CHOOSE, elem_id="finetune-status")
        with gr.Column(scale=1, min_width=260, elem_id="finetune-tools"):
            objects_and_candidates("finetune")
            with gr.Row():
                new_object = button("New object", "new", interactive=False)
                undo = button("Undo", "undo", 60, interactive=False)
            with gr.Row():
                find = button("Find the others", "find")
                find_next = button("Which photo next?", "find-next")
            next_photos = gr.HTML(elem_id="finetune-next", js_on_load=SCRIPT, apply_default_css=False)
            stop_find = button("Stop", "stop-find", visible=False)
            aside = gr.Checkbox(label="Hold this photo out for evaluation", elem_id="finetune-aside", interactive=False)
            recipe = gr.Radio(_RECIPES, value="decoder", label="What is trained", elem_id="finetune-recipe")
            most = tab.limits.finetune_minutes
            minutes = gr.Slider(0.5, most, value=min(2, most), step=0.5, label="Minutes", elem_id="finetune-minutes")
            with gr.Group():
                train = gr.Button("Train", variant="primary", elem_id="finetune-train", interactive=False)
                stop = gr.Button("Stop, and keep the best", variant="stop", visible=False, elem_id="finetune-stop")
            progress = gr.Markdown(elem_id="finetune-progress")
    curve = gr.LinePlot(
        x="minutes", y="value", color="measure", visible=False, height=330, elem_id="finetune-curve",
        title="Training loss, and mIoU on the held-out photos", show_label=False, y_lim=[0, 1],
        color_map=_CURVE_COLOURS, label="Learning curve",
    )  # fmt: skip
    results = gr.HTML(visible=False, elem_id="finetune-results")
    with gr.Row(visible=False) as done:
        use = button("Use it in all tabs", "use", variant="primary")
        kinds = {kind: button(f"Download: {label}", f"download-{kind}") for kind, label in _DOWNLOADS.items()}
    files = {kind: hidden_file(f"finetune-file-{kind}") for kind in kinds}

    parts = FinetunePage(
        drop_zone, photos, before, after, view, status, new_object, undo, aside, train, stop, progress, curve, results,
        choice, done, next_photos, find, find_next, stop_find,
    )  # fmt: skip
    shown = list(parts)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "undocumented", "concurrency_limit": None}
    quick: dict[str, Any] = {**quiet, "trigger_mode": "multiple", "concurrency_id": "finetune-clicks"}
    opening: dict[str, Any] = {**quiet, "show_progress": "full", "show_progress_on": status}
    upload.upload(tab.add_photos, [key, upload], shown, api_name="finetune_add", **opening)
    drop_zone.upload(tab.add_photos, [key, drop_zone], shown, **opening)
    examples.click(tab.add_examples, key, shown, api_name="finetune_examples", **opening)
    before.click(partial(tab.turn, by=-1), key, shown, **quick)
    after.click(partial(tab.turn, by=1), key, shown, **quick)
    follow(view, "finetune", parts.following)
    for place, act, gestures in ((photos, tab.on_photos, PHOTO_GESTURES), (view, tab.gesture, GESTURES)):
        for what in gestures:
            getattr(place, what)(_handler(act, what), key, shown, **quick)
    new_object.click(partial(tab.edit, what="new"), key, shown, **quick)
    undo.click(partial(tab.edit, what="undo"), key, shown, **quick)
    next_photos.jump(_handler(tab.on_photos, "pick"), key, shown, **quick)
    answering.change(tab.next_photos, key, next_photos, show_progress="hidden", api_visibility="private")
    aside.input(tab.hold_out, [key, aside], shown, **quick)
    for press, job, given, called in (
        (train, tab.train, [key, recipe, minutes], "train"), (find, tab.find_others, key, "find"),
        (find_next, tab.find_next, key, "next"),
    ):  # fmt: skip
        unqueued: dict[str, Any] = {"queue": False, "api_visibility": "undocumented"}
        begun = press.click(tab.begin, key, None, api_name=f"finetune_begin_{called}", **unqueued)
        begun.then(job, given, shown, api_name=f"finetune_{called}", **quiet)
    for press in (stop, stop_find):
        press.click(tab.stop, key, None, queue=False, api_visibility="private")
    use.click(tab.latest, key, choice, **quiet)
    for kind, pressed in kinds.items():
        writing = partial(tab.make_file, kind=kind)
        fetched(pressed.click(writing, key, files[kind], api_name=f"finetune_{kind}", **quiet), files[kind])
    choice.change(tab.use, [key, choice], [answering, choice], show_progress="hidden", api_visibility="private")
    return shown


def _handler(act: Callable[[str, str, gr.EventData], FinetunePage], what: str) -> Callable[..., FinetunePage]:
    def handle(key: str, event: gr.EventData) -> FinetunePage:  # Gradio looks for these types
        return act(key, what, event)

    return handle
