"""What runs in the browser: the click surface, the list of objects and the candidates, as JavaScript and CSS.

The scripts are bodies of functions. Whoever runs them, a page or a widget, provides

    element       where they live; it holds a div of class sk-surface, sk-objects or sk-candidates
    props         .value: the latest scene, list or candidates
    watch         watch('value', act) calls act when that changes
    trigger       trigger(name, data) tells that something happened
    server        ask_server(request) and preview_server(request), promises of answers; for the surface
    settings      for the surface: {title, previews, keys, height, below}, see click_surface in ui/surface.py;
                  a widget adds {within, gone}: the element whose keys it takes, and a signal that aborts with the view
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent


@cache
def surface_script() -> str:
    """The click surface."""
    return (_HERE / "surface.js").read_text()


@cache
def object_list_script() -> str:
    """The list of objects."""
    return (_HERE / "object_list.js").read_text()


@cache
def candidates_script() -> str:
    """The candidates of an ambiguous click."""
    return (_HERE / "candidates.js").read_text()


@cache
def surface_css() -> str:
    """Their looks; colours are CSS variables with Gradio's names."""
    return (_HERE / "surface.css").read_text()
