"""The Fine-tune tab in a real browser: photos, clicks, which photo to label next, a short training, and its result."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.app.chromium import SurfaceDriver, Visitor, download, needs_chromium
from tests.app.test_finetune_tab import write_disc_photos
from tests.proof_data import write_coins

pytest.importorskip("playwright.sync_api")
pytestmark = [needs_chromium, pytest.mark.slow]


def test_label_train_compare_use_and_download(browser, address: str, tmp_path: Path) -> None:  # noqa: ANN001
    write_coins(tmp_path / "coins")
    photos = sorted((tmp_path / "coins").glob("*/images/*.png"))[:4]
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#image-examples button.gallery-item")
    page.locator("#image-examples button.gallery-item").nth(0).click()
    image = SurfaceDriver(page, "#image-view")
    image.wait_shown()

    page.get_by_role("tab", name="Fine-tune").click()
    with page.expect_file_chooser() as waiting:
        page.click("#finetune-add")
    waiting.value.set_files([str(photo) for photo in photos])
    surface = SurfaceDriver(page, "#finetune-view")
    surface.wait_shown()
    side = int(surface.data("size").split(",")[0])
    for number in range(len(photos)):
        surface.answered(lambda: surface.drag(0.25 * side, 0.25 * side, 0.75 * side, 0.75 * side))
        surface.click(0.1 * side, 0.1 * side, button="right")  # a correction
        if number < len(photos) - 1:
            surface.refreshed(lambda: page.keyboard.press("ArrowRight"))
    page.wait_for_function("document.querySelector('#finetune-status').innerText.includes('Ready to train')")
    page.locator("#finetune-minutes input[type=number]").fill("0.5")
    page.keyboard.press("Tab")
    page.click("#finetune-train")
    page.wait_for_function("document.querySelector('#finetune-progress').innerText.includes('Training: step')")
    page.wait_for_selector("#finetune-curve canvas, #finetune-curve svg")
    page.wait_for_selector("#finetune-results figure")
    assert page.locator("#finetune-results img").count() == 1
    page.wait_for_selector("#finetune-use", state="visible")
    with zipfile.ZipFile(download(page, "#finetune-download-model", tmp_path)) as archive:
        assert "mine-1/finetuned.json" in archive.namelist()

    page.click("#finetune-use")
    page.wait_for_function("document.querySelector('#model input').value === 'mine-1'")
    page.get_by_role("tab", name="Image").click()
    page.wait_for_function("document.querySelector('#image-status').innerText.includes('the model that you chose')")
    width, height = map(int, image.data("size").split(","))
    image.click(width / 2, height / 2)
    assert image.points() == 1
    assert page.locator(".toast-body").all_inner_texts() == []
    assert problems == []
    page.close()


def test_buttons_go_to_the_photos_to_label_next(browser, address: str, tmp_path: Path) -> None:  # noqa: ANN001
    paths = write_disc_photos(tmp_path, 1, 0, 1, 0)  # nothing is in the second and in the last
    visitor = Visitor(browser, address, "finetune")
    page = visitor.page
    page.get_by_role("tab", name="Fine-tune").click()
    page.set_input_files("#finetune-upload input[type=file]", paths)
    visitor.wait_shown()
    visitor.click(30, 30)
    page.click("#finetune-find-next")
    helps = page.locator("#finetune-next .help button")
    helps.first.wait_for()
    assert helps.all_inner_texts() == ["1.png: nothing found", "3.png: nothing found"]
    assert page.locator("#finetune-stop-find").is_hidden()
    visitor.refreshed(helps.last.click)
    shown = page.locator("#finetune-photos .sk-object[aria-selected=true]")
    assert "3.png" in shown.inner_text()
    visitor.answered(lambda: visitor.drag(20, 20, 90, 90))
    assert helps.all_inner_texts() == ["1.png: nothing found"], "the list is shorter as soon as the click is answered"
    page.locator("#finetune-photos .sk-drop").nth(1).click()
    visitor.wait_until("next", "Labelling more would hardly pay")
    assert page.locator(".toast-body").all_inner_texts() == []
    visitor.leave()
