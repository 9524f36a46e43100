"""The click surface: one canvas that shows a picture, masks and prompts, and takes every gesture.

    left click  add        right click or shift-click  remove        click on a point  delete it
    drag        box        wheel or pinch  zoom                      middle drag or two fingers  move

All of the drawing happens in the browser (clicking/surface.js); what is said is in clicking/messages.py. Gestures go
straight to `ask`, past Gradio's queue, so that a click is answered in the time that the model needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from sam2kit.clicking.scripts import surface_script

Reply = dict[str, Any]


def click_surface(
    ask: Callable[[Any], Reply],
    preview: Callable[[Any], Reply] | None = None,
    *,
    name: str,
    label: str,
    keys: dict[str, tuple[str, str]],
    height: float = 0.64,
    below: int = 0,
    visible: bool = False,
) -> gr.HTML:
    """A click surface; its value is a scene (see `scene_message`) or None.

    Args:
        ask: takes a request as it came and answers it; called for each change of prompts.
        preview: the same, for the mask that a click would give; None shows none while the pointer hovers.
        name: element id.
        label: for those who cannot see it.
        keys: key of the keyboard -> CSS selector of what it presses, and what that does; in order, for the help text.
        height: the most that the picture takes of the window's height.
        below: pixels that are left below the picture, in windows of desktops, for what is to be seen together with it.
    Returns:
        the component. Its event `answered` comes after each answer that was shown, so that the rest of the
        page can follow.
    """

    def ask_server(sent: Any) -> Reply:
        return ask(sent)

    def preview_server(sent: Any) -> Reply:
        assert preview is not None, "the surface does not ask for previews then"
        return preview(sent)

    settings = {"title": label, "previews": preview is not None, "keys": keys, "height": height, "below": below}
    return gr.HTML(
        value=None,
        label=label,
        html_template='<div class="sk-surface"></div>',
        js_on_load=f"const settings = {json.dumps(settings)};\n{surface_script()}",
        server_functions=[ask_server] if preview is None else [ask_server, preview_server],
        visible=visible,
        elem_id=name,
        apply_default_css=False,
    )
