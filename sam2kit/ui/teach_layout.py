"""The Fine-tune tab on the page: layout first, then the wiring. What happens is in teach_tab.py."""

from __future__ import annotations

from typing import Any

import gradio as gr

from sam2kit.ui.object_list import candidate_keys, candidate_pictures, object_list
from sam2kit.ui.surface import click_surface
from sam2kit.ui.tab_parts import fetched, hidden_file, plain_view
from sam2kit.ui.teach_page import CHOOSE, CURVE_COLOURS, TeachPage
from sam2kit.ui.teach_tab import TeachTab

_RECIPES = [
    ("Mask decoder: fastest; for objects like everyday ones", "decoder"),
    ("LoRA: the image encoder, too; for unusual pictures", "lora"),
]
_DOWNLOADS = {"model": "The latest model", "data": "All labelled photos"}
_KEYS = {
    "u": ("#teach-undo", "undo"),
    "n": ("#teach-new", "new object"),
    **candidate_keys("teach-candidates"),
    "ArrowLeft": ("#teach-before", "previous photo"),
    "ArrowRight": ("#teach-after", "next photo"),
}

TEACH_CSS = """
#teach-photos .sk-objects { flex-direction: row; flex-wrap: wrap; max-height: 190px; }
#teach-photos .sk-object { flex: 0 1 215px; border-left: 1px solid var(--border-color-primary); }
#teach-photos .sk-rename { display: none; }
#teach-photos img { width: 56px; height: 44px; }
.teach-results table { margin-bottom: 12px; }
.teach-results td, .teach-results th { padding: 3px 12px; text-align: right; }
.teach-results td:first-child, .teach-results th:first-child { text-align: left; }
.teach-results .better { color: #00875a; font-weight: 600; }
.teach-results .worse { color: #c2410c; font-weight: 600; }
.teach-results figure { margin: 0 0 12px; }
.teach-results figure > div { display: flex; flex-wrap: wrap; gap: 8px; }
.teach-results figure > div > div { flex: 1 1 200px; max-width: 300px; font-size: 13px; }
.teach-results img { width: 100%; border-radius: 6px; margin: 0; }
"""


def build_teach_tab(tab: TeachTab, key: gr.State, choice: gr.Radio, answering: gr.State) -> list[Any]:
    """Lay the tab out inside the current Blocks and wire it; returns what a TeachPage updates.

    Args:
        choice: the page's choice among models, to which fine-tuned ones are added.
        answering: name of the model that answers; changes when another one does.
    """
    gr.Markdown(
        "**1** Add photos. **2** Click their objects, correct the masks. **3** Train; about a quarter of "
        "the photos is held out for evaluation. **4** Compare, then use it in all tabs.",
        elem_id="teach-steps",
    )
    with gr.Row():
        upload = gr.UploadButton(
            "Add photos", file_count="multiple", file_types=["image"], size="sm", elem_id="teach-add", min_width=120,
            variant="primary",
        )  # fmt: skip
        examples = gr.Button("Use the example photos", size="sm", elem_id="teach-examples", min_width=120)
        before = gr.Button("◂ Previous photo", size="sm", elem_id="teach-before", min_width=80, interactive=False)
        after = gr.Button("Next photo ▸", size="sm", elem_id="teach-after", min_width=80, interactive=False)
    photos = object_list("teach-photos", "photo")
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            # also what is dropped or pasted anywhere on the page while this tab is open
            drop_zone = gr.File(
                file_count="multiple", elem_id="teach-upload", label="Photos to fine-tune on", height=320, buttons=[]
            )
            view: gr.Image | gr.HTML
            if tab.plain:
                view = plain_view("Click on the photo", "teach-view")
            else:
                view = click_surface(
                    tab.ask, tab.preview, name="teach-view", label="The photo to label; click on things", keys=_KEYS,
                    height=0.56,
                )  # fmt: skip
            status = gr.Markdown(CHOOSE, elem_id="teach-status")
        with gr.Column(scale=1, min_width=260, elem_id="teach-tools"):
            candidates = candidate_pictures("teach-candidates")
            objects = object_list("teach-objects")
            with gr.Row():
                new_object = gr.Button("New object", size="sm", elem_id="teach-new", min_width=80, interactive=False)
                undo = gr.Button("Undo", size="sm", elem_id="teach-undo", min_width=60, interactive=False)
            aside = gr.Checkbox(label="Hold this photo out for evaluation", elem_id="teach-aside", interactive=False)
            recipe = gr.Radio(_RECIPES, value="decoder", label="What is trained", elem_id="teach-recipe")
            minutes = gr.Slider(
                0.5, tab.limits.teach_minutes, value=min(2, tab.limits.teach_minutes), step=0.5, label="Minutes",
                elem_id="teach-minutes",
            )  # fmt: skip
            with gr.Group():
                train = gr.Button("Train", variant="primary", elem_id="teach-train", interactive=False)
                stop = gr.Button("Stop, and keep the best", variant="stop", visible=False, elem_id="teach-stop")
            progress = gr.Markdown(elem_id="teach-progress")
    curve = gr.LinePlot(
        x="minutes", y="value", color="measure", visible=False, height=330, elem_id="teach-curve",
        title="Training loss, and mIoU on the held-out photos", show_label=False, y_lim=[0, 1],
        color_map=CURVE_COLOURS, label="Learning curve",
    )  # fmt: skip
    results = gr.HTML(visible=False, elem_id="teach-results")
    with gr.Row(visible=False) as done:
        use = gr.Button("Use it in all tabs", size="sm", variant="primary", elem_id="teach-use")
        kinds = {
            kind: gr.Button(f"Download: {says}", size="sm", elem_id=f"teach-download-{kind}")
            for kind, says in _DOWNLOADS.items()
        }
    files = {kind: hidden_file(f"teach-file-{kind}") for kind in kinds}

    shown = list(TeachPage(
        drop_zone, photos, before, after, view, status, objects, candidates, new_object, undo, aside, train, stop,
        progress, curve, results, choice, done,
    ))  # fmt: skip
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "undocumented", "concurrency_limit": None}
    quick: dict[str, Any] = {**quiet, "trigger_mode": "multiple", "concurrency_id": "teach-clicks"}
    opening: dict[str, Any] = {**quiet, "show_progress": "full", "show_progress_on": status}

    upload.upload(tab.add_photos, [key, upload], shown, api_name="teach_add", **opening)
    drop_zone.upload(tab.add_photos, [key, drop_zone], shown, **opening)
    examples.click(tab.add_examples, key, shown, api_name="teach_examples", **opening)
    before.click(lambda k: tab.next_photo(k, -1), key, shown, **quick)
    after.click(lambda k: tab.next_photo(k, 1), key, shown, **quick)
    photos.pick(tab.show_photo, key, shown, **quick)
    photos.drop(tab.drop_photo, key, shown, **quick)
    if isinstance(view, gr.Image):
        view.select(tab.click, key, shown, **quick)
    else:
        view.answered(tab.answered, key, shown, **{**quick, "trigger_mode": "always_last"})
    candidates.choose(tab.choose, key, shown, **quick)
    objects.pick(tab.pick, key, shown, **quick)
    objects.rename(tab.rename, key, shown, **quick)
    objects.drop(tab.drop, key, shown, **quick)
    new_object.click(tab.new_object, key, shown, **quick)
    aside.input(tab.keep_aside, [key, aside], shown, **quick)
    undo.click(tab.undo, key, shown, **quick)
    train.click(tab.begin, key, None, queue=False, api_visibility="undocumented", api_name="teach_begin").then(
        tab.train, [key, recipe, minutes], shown, api_name="teach_train", **quiet
    )
    stop.click(tab.stop, key, None, queue=False, api_visibility="private")
    use.click(tab.latest, key, choice, **quiet)
    for kind, button in kinds.items():
        made = button.click(
            lambda k, kind=kind: tab.make_file(k, kind), key, files[kind], api_name=f"teach_{kind}", **quiet
        )
        fetched(made, files[kind])
    choice.change(tab.use, [key, choice], answering, show_progress="hidden", api_visibility="private")
    return shown
