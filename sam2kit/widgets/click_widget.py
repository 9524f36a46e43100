"""What the widgets for pictures and for clips share: the page in the browser, and how it is answered.

    browser -> kernel    {id, ask | preview: a request of the click surface}, or {id, deed: a button, ...}
    kernel -> browser    {id, answer}: one for each; and the traits (scene, listed, ...), whenever they change

Everything happens in the kernel's one thread, between the cells: what the next cell reads is what the page shows.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets

from sam2kit.clicking.messages import PromptRequest, ShownObject, answer_message, jpeg_url, refusal
from sam2kit.clicking.scripts import candidates_script, object_list_script, surface_css, surface_script
from sam2kit.widgets.still import still_picture

KEY = "widget"  # where a page has visitors, requests carry the visitor's key
_HERE = Path(__file__).parent
_ERRORS = (ValueError, OSError, RuntimeError)  # of what people ask for; the last when a device is full


class ClickWidget(anywidget.AnyWidget):
    """A picture to click on; see ClickImage and ClickVideo."""

    scene = traitlets.Dict().tag(sync=True)  # see clicking/messages.py
    listed = traitlets.Dict().tag(sync=True)  # see clicking/object_list.py
    candidates = traitlets.Dict().tag(sync=True)  # see clicking/object_list.py; empty where there is nothing to choose
    tools = traitlets.Dict().tag(sync=True)  # what the buttons show
    label = traitlets.Unicode().tag(sync=True)  # for those who cannot see the picture

    def __init__(self, label: str) -> None:
        self._esm, self._css = _script(), surface_css() + (_HERE / "widget.css").read_text()
        super().__init__(label=label)
        self.on_msg(self._heard)
        self.refresh()

    # what a picture and a clip do in their own ways

    def refresh(self) -> None:
        """Show what there is now; needed only after somebody else changed it."""
        raise NotImplementedError

    def still(self) -> np.ndarray:
        """What is seen, with masks and prompts, uint8 [H, W, 3]."""
        raise NotImplementedError

    def _ask(self, request: PromptRequest) -> ShownObject:
        """Let the request's prompts be all of an object's prompts."""
        raise NotImplementedError

    def _preview(self, request: PromptRequest) -> ShownObject:
        """The object as it would be."""
        raise NotImplementedError

    def _do(self, deed: str, more: dict[str, Any]) -> dict[str, Any]:
        """What a button does; raises ValueError for people."""
        raise NotImplementedError

    # talking to the browser

    def _heard(self, _: Any, content: Any, __: Any) -> None:
        """Answer a message, whatever it is: the page waits."""
        if not isinstance(content, dict):
            return
        answer = refusal("the kernel could not answer that; its log says why")
        try:
            answer = self._answer(content)
        except _ERRORS as error:
            answer = refusal(str(error))
        finally:
            self.send({"id": content.get("id"), "answer": answer})

    def _answer(self, content: dict[str, Any]) -> dict[str, Any]:
        if "ask" in content:
            request = PromptRequest.read(content["ask"])
            answer = answer_message(request, self._ask(request))
            self._refresh_tools()
            return answer
        if "preview" in content:
            request = PromptRequest.read(content["preview"])
            return answer_message(request, self._preview(request))
        return self._do(str(content.get("deed")), content)

    def _refresh_tools(self) -> None:
        """Update the list of objects and the buttons; the picture itself stays."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The widget; and for those who cannot show one, a picture that says so."""
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, about = bundle
        picture = jpeg_url(still_picture(self.still())).partition(",")[2]
        return {**data, "text/plain": repr(self), "image/jpeg": picture}, about

    def __repr__(self) -> str:
        names = ", ".join(row["name"] for row in self.listed["rows"])
        return f"{type(self).__name__} ({self.label}; objects: {names})"


@cache
def _script() -> str:
    """The app's scripts as functions, and the widget's own behind them."""
    return "\n".join(
        [
            "const surface = (element, props, server, trigger, watch, settings) => {", surface_script(), "};",
            "const objectList = (element, props, trigger, watch) => {", object_list_script(), "};",
            "const candidates = (element, props, trigger, watch) => {", candidates_script(), "};",
            (_HERE / "widget.js").read_text(),
        ]
    )  # fmt: skip
