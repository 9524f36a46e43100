"""The menu of models: what it says, which one an app on a CPU begins with, and changing between them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch

from sam2kit.app import models as module
from sam2kit.app import offers
from sam2kit.app.finetune_tab import FinetuneTab
from sam2kit.app.finetune_work import FinetuneWork
from sam2kit.app.models import LoadedModel, Models, load_for_app
from sam2kit.app.offers import OFFERS, Seconds, measured_seconds, offer_for_clicks, seconds_of
from sam2kit.app.queue import FairQueue
from sam2kit.app.store import TabStore
from sam2kit.config import PRESETS, preset
from sam2kit.hub import hub_source
from sam2kit.model.sam2 import SAM2
from tests.app.chromium import Visitor, needs_chromium
from tests.app.load_app import started
from tests.app.test_browser import DISC, write_discs
from tests.conftest import HUB_PORT
from tests.loopback_hub import LoopbackHub


def made_up(name: str) -> bytes:
    """A weight file as its authors publish it, but in half precision: the largest one is huge."""
    torch.manual_seed(0)
    model = SAM2(preset(name))
    torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 6.0)
    file = io.BytesIO()
    torch.save({"model": model.half().state_dict()}, file)
    return file.getvalue()


def publish(hub: LoopbackHub, *names: str) -> None:
    for name in names:
        source = hub_source(name)
        assert source is not None
        filename = source.filename or f"{name}.pt"
        hub.repos.setdefault(source.repo_id, {})[filename] = made_up(name)


class TestMenu:
    def test_all_offers_are_presets_with_the_most_accurate_first(self) -> None:
        assert {offer.name for offer in OFFERS} <= set(PRESETS)
        known = [offer.accuracy for offer in OFFERS if offer.accuracy]
        assert known == sorted(known, reverse=True)

    def test_lines_say_what_a_model_takes_here(self, hub: LoopbackHub) -> None:
        offer = next(o for o in OFFERS if o.name == "edgetam")
        offer = replace(offer, first_click=2.0, frame=30.0)
        assert offer.label(None) == "edgetam: J&F 71.7, 56 MB to download"
        line = offer.label(Seconds(0.5, 0.6))
        assert line == "edgetam: first click about 1.0 s, a tracked frame 18 s, J&F 71.7, 56 MB to download"
        assert "bundled" in OFFERS[-1].label(None)
        publish(hub, "edgetam")
        module.load_model("edgetam", "cpu")
        assert offer.label(None).endswith("downloaded")

    def test_the_most_accurate_that_answers_at_once(self) -> None:
        for seconds, name in (
            (0.01, "sam2.1-hiera-large"),
            (0.25, "edgetam"),
            (0.95, "efficienttam-ti-512"),
            (9, None),
        ):
            chosen = offer_for_clicks(Seconds(seconds, seconds))
            assert chosen.name == (name or "efficienttam-ti-512"), seconds

    def test_measured_once_for_a_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        asked: list[str] = []

        def measure(name: str, *_: Any) -> Seconds:
            asked.append(name)
            return Seconds(0.25, 0.5)

        monkeypatch.setattr(offers, "seconds_of", measure)
        monkeypatch.setattr(offers.THREADS, "others", 0.0)
        monkeypatch.setattr(offers, "fit_threads", lambda: None)
        assert measured_seconds(torch.float32) == measured_seconds(torch.float32) == Seconds(0.25, 0.5)
        assert asked == ["efficienttam-ti-512"]
        assert measured_seconds(torch.bfloat16) and len(asked) == 2, "another precision is another matter"
        file = tmp_path / "sam2kit" / "seconds.json"
        assert len(json.loads(file.read_text())) == 2
        file.write_text("[1]")  # somebody else's
        assert measured_seconds(torch.float32) == Seconds(0.25, 0.5) and len(asked) == 3
        file.unlink()
        monkeypatch.setattr(offers.THREADS, "others", 1.5)
        monkeypatch.setattr(offers, "_measured_here", {})
        assert measured_seconds(torch.float32) == measured_seconds(torch.float32) and len(asked) == 4
        assert not file.exists(), "other programs made it slow"

    def test_a_model_is_measured(self) -> None:
        taken = seconds_of("nano")
        assert 0 < taken.first_click < 30 and 0 < taken.frame < 30


class TestStart:
    @pytest.fixture(autouse=True)
    def _slow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "measured_seconds", lambda *_: Seconds(0.95, 1.0))

    def test_on_a_cpu_a_click_is_answered_at_once_and_the_page_says_why(self, hub: LoopbackHub) -> None:
        publish(hub, "efficienttam-ti-512")
        found = load_for_app("auto", "cpu")
        assert found.name == "efficienttam-ti-512" and found.model.config == preset("efficienttam-ti-512")
        assert "was chosen, as a first click takes it about 0.9 s" in found.notice.replace("1.0 s", "0.9 s")

    def test_without_a_hub_nano_steps_in(self, hub: LoopbackHub) -> None:
        hub.stop()
        found = load_for_app("auto", "cpu")
        assert found.name == "nano" and "instead of efficienttam-ti-512" in found.notice


@pytest.fixture
def tab(nano: SAM2) -> FinetuneTab:
    store: TabStore[FinetuneWork] = TabStore(FinetuneWork, FinetuneWork.close)
    base = LoadedModel.of(nano, "nano", FairQueue())
    models = Models(base, lambda key: work.chosen if (work := store.peek(key)) is not None else None)
    return FinetuneTab(models, store, [])


class TestChange:
    def test_visitors_share_what_they_choose(
        self, tab: FinetuneTab, hub: LoopbackHub, warnings: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gr, "Info", lambda *_, **__: None)
        publish(hub, "efficienttam-ti-512")
        assert tab.use("me", "efficienttam-ti-512")[0] == "efficienttam-ti-512"
        assert tab.use("you", "efficienttam-ti-512")[0] == "efficienttam-ti-512"
        assert tab.models.of("me") is tab.models.of("you") is not tab.models.base
        assert tab.use("me", "nano")[0] == "nano" and tab.models.of("me") is tab.models.base
        answering, menu = tab.use("me", "edgetam")
        assert answering == "nano" and menu["value"] == "nano", "the menu goes back"
        assert "edgetam" in warnings[-1] or "EdgeTAM" in warnings[-1]
        assert tab.models.of("me") is tab.models.base
        for nonsense in ("/etc/passwd", "facebook/sam2.1-hiera-tiny", "", None):
            assert tab.use("me", nonsense)[0] == "nano", "only what the menu offers is loaded"

    def test_the_menu_has_the_apps_own_the_visitors_and_the_published(self, tab: FinetuneTab) -> None:
        lines = tab.models.choices(["mine-1"])
        names = [name for _, name in lines]
        assert names[:2] == ["nano", "mine-1"] and set(names[2:]) == {o.name for o in OFFERS} - {"nano"}
        assert lines[0][0].startswith("nano: bundled")

    def test_none_is_offered_where_the_gpu_is_lent(self, tab: FinetuneTab, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "is_zero_gpu", lambda: True)
        assert [name for _, name in tab.models.choices(["mine-1"])] == ["nano", "mine-1"]
        assert tab.models.published("edgetam") is None


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An app on a CPU with a Hub of its own, which has all models of the menu."""
    hub, caches = LoopbackHub(HUB_PORT).start(), tmp_path_factory.mktemp("caches")
    publish(hub, *(offer.name for offer in OFFERS if offer.megabytes))
    process, address, _ = started(
        "app.py", "--model", "nano", "--device", "cpu", HF_HOME=str(caches / "hub"), XDG_CACHE_HOME=str(caches),
        HF_ENDPOINT=f"http://127.0.0.1:{HUB_PORT}",
    )  # fmt: skip
    yield address
    process.terminate()
    process.wait(20)
    hub.stop()


@pytest.mark.slow
@needs_chromium
def test_a_visitor_changes_between_all_models_and_keeps_the_prompts(browser: Any, visited: str, tmp_path: Path) -> None:
    visitor = Visitor(browser, visited, "image")
    visitor.page.set_default_timeout(180_000)
    visitor.page.wait_for_function("document.querySelector('#model input').value.includes('first click about')")
    visitor.open(write_discs(tmp_path / "discs.png", DISC, (825, 450, 112)))
    visitor.click(*DISC[:2])
    for number, name in enumerate([o.name for o in OFFERS], start=2):
        visitor.page.click("#model input")
        line = visitor.page.locator("#model ul li", has_text=f"{name}:")
        assert "first click about" in line.inner_text()
        visitor.refreshed(line.click)
        assert visitor.page.locator("#model input").input_value().startswith(f"{name}:")
        assert visitor.points() == number - 1, "the prompts are still there"
        visitor.click(
            DISC[0] + 100 * math.cos(number), DISC[1] + 100 * math.sin(number)
        )  # apart: a click on a point removes it
        assert visitor.points() == number
    visitor.leave()
