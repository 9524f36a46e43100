"""The list of objects and the candidates of a click as components of the page: pick, rename, remove, choose."""

from __future__ import annotations

import gradio as gr

from sam2kit.clicking.scripts import candidates_script, object_list_script


def object_list(name: str, noun: str = "object") -> gr.HTML:
    """The component; its value is a `list_message`, its events are `pick`, `rename` and `drop`.

    Args:
        noun: what the rows are.
    """
    return gr.HTML(
        value=None,
        html_template=f'<div class="sk-objects" data-noun="{noun}"></div>',
        js_on_load=object_list_script(),
        elem_id=name,
        label=f"{noun.capitalize()}s",
        apply_default_css=False,
    )


def candidate_pictures(name: str) -> gr.HTML:
    """The component; its value is a `candidates_message` or None, its event is `choose`."""
    return gr.HTML(
        value=None,
        html_template='<div class="sk-candidates" hidden></div>',
        js_on_load=candidates_script(),
        elem_id=name,
        label="Candidates",
        apply_default_css=False,
    )


def candidate_keys(name: str) -> dict[str, tuple[str, str]]:
    """Keys 1 to 3 for the candidates, as `click_surface` takes them."""
    return {str(i + 1): (f"#{name} [data-candidate='{i}']", f"candidate {i + 1}") for i in range(3)}


def number_in(event: gr.EventData, name: str = "number") -> int | None:
    """The object's number, or another one, that an event names; None if it names none."""
    data = event._data if isinstance(event._data, dict) else {}
    number = data.get(name)
    return number if isinstance(number, int) and not isinstance(number, bool) else None


def name_in(event: gr.EventData) -> str:
    """The name that an event brings; "" if it brings none."""
    data = event._data if isinstance(event._data, dict) else {}
    return data["name"] if isinstance(data.get("name"), str) else ""
