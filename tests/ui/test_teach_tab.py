"""The Teach tab's handlers, called as plain functions: label, train, compare, use."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from sam2kit.model.sam2 import SAM2
from sam2kit.ui.limits import Limits
from sam2kit.ui.networks import Network, Networks
from sam2kit.ui.sessions import SessionStore
from sam2kit.ui.teach_page import TeachPage
from sam2kit.ui.teach_tab import TeachTab
from sam2kit.ui.teach_work import TeachWork
from sam2kit.ui.turns import Turns
from tests.proof_data import write_coins

PHOTOS = 4


@pytest.fixture(scope="module")
def coins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coins")
    write_coins(folder)
    return folder


@pytest.fixture
def tab(nano: SAM2) -> Iterator[TeachTab]:
    passes = Turns()
    networks = Networks(Network.of(nano, "nano", passes))
    store = SessionStore(TeachWork, discard=TeachWork.close, forgotten=networks.forget)
    yield (tab := TeachTab(networks, store, [], passes))
    tab.store.drop("me")


def about(number: int, **more: object) -> SimpleNamespace:
    return SimpleNamespace(_data={"number": number, **more})


def ask(tab: TeachTab, page: TeachPage, sequence: int, points: list, box: list | None = None) -> dict:
    scene = page.view["value"]
    return tab.ask(
        {"key": scene["key"], "scene": scene["scene"], "sequence": sequence, "number": scene["active"],
         "points": points, "box": box}
    )  # fmt: skip


def photos_of(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.glob("*/images/*.png"))[:PHOTOS]]


def label_all(tab: TeachTab, coins: Path) -> TeachPage:
    """One coin in each photo, by its box."""
    page = tab.add_photos("me", photos_of(coins))
    for number in range(PHOTOS):
        side = page.view["value"]["size"][0]
        answer = ask(tab, page, number + 1, [], [0.25 * side, 0.25 * side, 0.75 * side, 0.75 * side])
        assert answer["object"]["mask"], answer
        page = tab.next_photo("me", 1)
    return tab.answered("me")


def test_photos_are_added_shown_named_and_left_out(tab: TeachTab, coins: Path, tmp_path: Path) -> None:
    assert tab.answered("me").view["visible"] is False
    page = tab.add_photos("me", photos_of(coins))
    assert [row["note"] for row in page.photos["rows"]] == ["no object yet"] * PHOTOS
    assert page.photos["active"] == 0
    assert "Label at least 2 photos" in page.status
    assert tab.show_photo("me", about(2)).photos["active"] == 2
    assert tab.next_photo("me", 2).photos["active"] == 0, "after the last comes the first"
    assert len(tab.drop_photo("me", about(0)).photos["rows"]) == PHOTOS - 1
    (tmp_path / "bad.png").write_text("no photo")
    assert len(tab.add_photos("me", [str(tmp_path / "bad.png")]).photos["rows"]) == PHOTOS - 1
    tab.limits = Limits(photos=PHOTOS)
    assert len(tab.add_photos("me", photos_of(coins)).photos["rows"]) == PHOTOS


def test_labels_belong_to_their_photo(tab: TeachTab, coins: Path) -> None:
    first = tab.add_photos("me", photos_of(coins))
    side = first.view["value"]["size"][0]
    assert ask(tab, first, 1, [[side / 2, side / 2, 1]])["object"]["mask"]
    second = tab.next_photo("me", 1)
    assert second.view["value"]["objects"][0]["mask"] == ""
    assert "another picture" in ask(tab, first, 2, [])["says"]
    assert tab.rename("me", about(0, name="penny")).objects["rows"][0]["name"] == "penny"
    assert tab.next_photo("me", -1).objects["rows"][0]["name"] == "Object 1"
    preview = {
        "key": "me", "scene": tab.undo("me").view["value"]["scene"], "sequence": 3, "number": 0,
        "points": [[side / 2, side / 2, 1]], "box": None,
    }  # fmt: skip
    assert tab.preview(preview)["object"]["mask"]


def test_train_compare_use_and_download(tab: TeachTab, coins: Path) -> None:
    with pytest.raises(gr.Error, match="no fine-tuned model yet"):
        tab.make_file("me", "model")
    page = label_all(tab, coins)
    assert "3 photos to train on, 1 held out" in page.status
    assert sum("held out" in row["note"] for row in page.photos["rows"]) == 1
    assert page.aside["value"] is False
    page = tab.keep_aside("me", True)
    assert "held out" in page.photos["rows"][0]["note"]
    assert "3 photos to train on, 1 held out" in page.status, "it takes the place of the one that was drawn"
    tab.begin("me")
    pages = list(tab.train("me", "decoder", 0.12))
    told = [page.progress for page in pages if isinstance(page.progress, str)]
    assert any("Training: step" in text for text in told), told
    assert "Done" in told[-1]
    curves = [page.curve["value"] for page in pages if isinstance(page.curve, dict) and "value" in page.curve]
    assert {"loss", "1 click"} <= set(curves[-1]["measure"])
    shown = next(page for page in pages if isinstance(page.results, dict) and page.results.get("visible"))
    assert shown.results["value"].count("<figure>") == 1
    assert shown.results["value"].count("data:image/jpeg") == 3
    assert shown.choice["choices"] == ["nano", "mine-1"]
    assert shown.choice["value"] == "nano"
    assert pages[-1].train["interactive"] is True

    assert tab.latest("me")["value"] == "mine-1"
    assert tab.use("me", "mine-1") == "mine-1"
    taught = tab.networks.of("me")
    assert tab.networks.of("you") is tab.networks.base, "others keep the app's model"
    weights = [dict(n.images.model.state_dict()) for n in (taught, tab.networks.base)]
    assert any(not np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert tab.use("me", "nano") == "nano"
    assert tab.networks.of("me") is tab.networks.base

    with zipfile.ZipFile(tab.make_file("me", "model")) as archive:
        assert "mine-1/finetuned.safetensors" in archive.namelist()
    with zipfile.ZipFile(tab.make_file("me", "data")) as archive:
        assert len([name for name in archive.namelist() if "/images/" in name]) == PHOTOS
    folder = Path(tab.make_file("me", "data")).parent
    tab.store.drop("me")
    assert not folder.exists()


def test_stop_ends_it_and_waiting_is_told(tab: TeachTab, coins: Path) -> None:
    label_all(tab, coins)
    other = tab.jobs.join("other")
    tab.begin("me")
    pages = tab.train("me", "decoder", 2)
    assert next(pages).progress == "Getting ready …"
    assert "1 job before yours" in next(pages).progress
    other.leave()
    while "Training: step" not in str(next(pages).progress):
        pass
    tab.stop("me")
    assert "Stopped" in [p.progress for p in pages if isinstance(p.progress, str)][-1]
    assert tab.jobs.count == 0


def test_what_a_training_has_learnt_survives_a_reload(tab: TeachTab, coins: Path) -> None:
    label_all(tab, coins)
    tab.begin("me")
    pages = tab.train("me", "decoder", 0.1)
    while "Comparing" not in str(next(pages).progress):
        pass
    assert tab.store.move("me", "you")
    tab.networks.move("me", "you")
    pages.close()  # as Gradio does when a page is gone
    page = tab.bring_back("you")
    assert len(page.photos["rows"]) == PHOTOS
    last = list(tab.follow("you"))[-1]
    assert "minutes" in last.progress
    assert "before" in last.results["value"]
    assert last.choice["choices"][-1] == "mine-1"
    again = tab.bring_back("you")
    assert again.results["value"] == last.results["value"], "and one more"
    assert list(tab.follow("nobody")) == [TeachPage()], "nothing is emptied"
    tab.store.drop("you")


def test_training_without_labels_says_what_is_missing(tab: TeachTab, coins: Path) -> None:
    assert "Add photos first" in next(tab.train("me", "decoder", 1)).status
    tab.add_photos("me", photos_of(coins))
    assert "Label at least 2 photos" in next(tab.train("me", "decoder", 1)).status
