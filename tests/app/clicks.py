"""What a browser would do to a tab, as plain calls: click on its canvas, and press what is in its list."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sam2kit.app.models import LoadedModel, Models
from sam2kit.app.page import FOLLOWING, Page
from sam2kit.app.queue import FairQueue
from sam2kit.app.store import TabStore
from sam2kit.app.tab import ClickTab
from sam2kit.app.work import Workspace
from sam2kit.model.sam2 import SAM2


def models_of(model: SAM2, name: str = "nano") -> Models:
    """A model for all visitors."""
    return Models(LoadedModel.of(model, name, FairQueue()))


def tab_of(name: str, models: Models, examples: list[Path]) -> ClickTab:
    """The Image or the Video tab, without a page."""
    return ClickTab(name, models, TabStore(Workspace, Workspace.close), examples)


def gesture(tab: ClickTab, what: str, number: Any, key: str = "me", **more: Any) -> Page:
    """An event of the list of objects, or of the candidates."""
    sent = {"candidate" if what == "choose" else "number": number, **more}
    return tab.gesture(key, what, SimpleNamespace(_data=sent))


def scene_of(page: Page) -> dict[str, Any]:
    """What the canvas shows."""
    return page.view["value"]


def names_in(page: Page) -> list[str]:
    """The rows of the list of objects."""
    return [shown["name"] for shown in scene_of(page)["objects"]]


def masks_in(page: Page) -> list[str]:
    """The masks on the canvas."""
    return [shown["mask"] for shown in scene_of(page)["objects"]]


def work_of(tab: ClickTab, key: str = "me") -> Workspace:
    """A visitor's work."""
    with tab.store.using(key) as work:
        return work


class Canvas:
    """A visitor's canvas: clicks add to the prompts that it shows, as in the browser."""

    def __init__(self, tab: ClickTab, key: str = "me") -> None:
        self.tab, self.key, self.sequence = tab, key, 0

    @property
    def scene(self) -> dict[str, Any]:
        """What it shows now."""
        with self.tab.store.using(self.key) as work:
            return work.editor.scene(self.key)

    def request(self, points: list, box: list | None = None, **changes: Any) -> dict[str, Any]:
        """As the browser would send it."""
        self.sequence += 1
        scene = self.scene
        asked = {"key": self.key, "scene": scene["scene"], "sequence": self.sequence, "number": scene["active"]}
        return {**asked, "points": points, "box": box, **changes}

    def asks(self, points: list, box: list | None = None, **changes: Any) -> dict[str, Any]:
        """These are all prompts of the active object; the answer, with the parts of the page by name."""
        answer = self.tab.ask(self.request(points, box, **changes))
        return answer | {"page": dict(zip(FOLLOWING, answer["page"], strict=True))} if "page" in answer else answer

    def clicks(self, x: float, y: float, label: int = 1) -> dict[str, Any]:
        """One click more."""
        scene = self.scene
        return self.asks([*scene["points"], [x, y, label]], scene["box"])
