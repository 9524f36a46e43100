"""The list of objects as a component of the page: pick, rename, remove."""

from __future__ import annotations

import gradio as gr

from sam2kit.clicking.scripts import object_list_script


def object_list(name: str) -> gr.HTML:
    """The component; its value is a `list_message`, its events are `pick`, `rename` and `drop`."""
    return gr.HTML(
        value=None,
        html_template='<div class="sk-objects"></div>',
        js_on_load=object_list_script(),
        elem_id=name,
        label="Objects",
        apply_default_css=False,
    )


def number_in(event: gr.EventData) -> int | None:
    """The object's number that an event names; None if it names none."""
    data = event._data if isinstance(event._data, dict) else {}
    number = data.get("number")
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def name_in(event: gr.EventData) -> str:
    """The name that an event brings; "" if it brings none."""
    data = event._data if isinstance(event._data, dict) else {}
    return data["name"] if isinstance(data.get("name"), str) else ""
