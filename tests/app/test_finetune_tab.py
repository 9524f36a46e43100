"""The Fine-tune tab's handlers, called as plain functions: photos, labels, training, results, reloads."""

from __future__ import annotations

import re
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from sam2kit.app.finetune_page import FOLLOWING, FinetunePage
from sam2kit.app.finetune_run import FinetunePlan, FinetuneRun
from sam2kit.app.finetune_tab import FinetuneTab
from sam2kit.app.finetune_work import FinetuneWork
from sam2kit.app.limits import Limits
from sam2kit.app.models import LoadedModel, Models, mean_score
from sam2kit.app.queue import FairQueue
from sam2kit.app.store import TabStore
from sam2kit.data.opening import open_dataset
from sam2kit.data.sample import LabelledFrames, SampleInMemory
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import FoundMask
from sam2kit.training.detection import train_detection
from sam2kit.weights import load_model

PHOTOS = 5
MIDDLES = ((28, 30), (70, 90))  # (y, x) of a disc and a square


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Five photos of a disc and a square."""
    ys, xs = np.mgrid[:96, :128]
    made = []
    for number in range(PHOTOS):
        image = np.full((96, 128, 3), 50 + 10 * number, np.uint8)
        (disc_y, disc_x), (y, x) = MIDDLES
        image[(ys - disc_y) ** 2 + (xs - disc_x) ** 2 < 18**2] = (220, 60, 40 + 20 * number)
        image[(abs(ys - y) < 18) & (abs(xs - x) < 18)] = (40, 200, 90)
        made.append(str(tmp_path / f"photo {number}.png"))
        Image.fromarray(image).save(made[-1])
    return made


@pytest.fixture
def tab(nano: SAM2) -> Iterator[FinetuneTab]:
    store = TabStore(FinetuneWork, FinetuneWork.close)
    base = LoadedModel.of(nano, "nano", FairQueue())
    models = Models(base, lambda key: work.chosen if (work := store.peek(key)) is not None else None)
    yield FinetuneTab(models, store, [], Limits(photos=8))
    store.visitors.drop("me")


def work_of(tab: FinetuneTab, key: str = "me") -> FinetuneWork:
    work = tab.store.peek(key)
    assert work is not None
    return work


def about(number: int, **more: object) -> Any:
    return SimpleNamespace(_data={"number": number, **more})


def ask(tab: FinetuneTab, points: list, *, preview: bool = False) -> dict[str, Any]:
    """A gesture on the photo that is shown, as the canvas sends it."""
    scene = work_of(tab).photo.editor.scene("me")
    sent = {name: scene[name] for name in ("key", "scene")}
    sent |= {"sequence": time.monotonic_ns(), "number": scene["active"], "points": points, "box": None}
    return (tab.preview if preview else tab.ask)(sent)


def label(tab: FinetuneTab, *numbers: int) -> None:
    """Click both things in photos."""
    for number in numbers:
        tab.on_photos("me", "pick", about(number))
        for y, x in MIDDLES:
            tab.edit("me", "new")
            answer = ask(tab, [[x, y, 1]])
            assert answer["object"]["mask"], answer


def notes(page: FinetunePage) -> list[str]:
    return [row["note"] for row in page.photos["rows"]]


def trained(tab: FinetuneTab, minutes: float) -> list[FinetunePage]:
    tab.begin("me")
    return list(tab.train("me", "decoder", minutes))


class TestPhotos:
    def test_added_shown_and_left_out(self, tab: FinetuneTab, paths: list[str], tmp_path: Path) -> None:
        assert "Add photos first" in next(tab.train("me", "decoder", 1)).status
        page = tab.add_photos("me", paths)
        assert notes(page) == ["no object yet"] * PHOTOS
        assert page.photos["active"] == 0
        assert page.status == "Label at least 2 photos: 0 of 5 has objects so far."
        assert tab.on_photos("me", "pick", about(3)).photos["active"] == 3
        page = tab.on_photos("me", "drop", about(1))
        assert (page.photos["active"], work_of(tab).photo.file_name) == (2, "photo_3.png")
        assert tab.turn("me", 2).photos["active"] == 0, "after the last comes the first"
        (tmp_path / "bad.png").write_text("no photo")
        assert len(tab.add_photos("me", [str(tmp_path / "bad.png")]).photos["rows"]) == PHOTOS - 1
        assert len(tab.add_photos("me", paths).photos["rows"]) == 8, "the limit"
        for _ in range(8):
            page = tab.on_photos("me", "drop", about(0))
        assert page.view["visible"] is False
        assert page.upload["visible"] is True

    def test_names_differ_and_large_ones_are_made_smaller(
        self, tab: FinetuneTab, paths: list[str], tmp_path: Path
    ) -> None:
        (tmp_path / "more").mkdir()
        others = [tmp_path / "more" / name for name in ("photo 0.jpg", "PHOTO_0.png", "../ß §.png")]
        for other in others:
            Image.open(paths[0]).resize((3000, 2000)).save(other)
        tab.add_photos("me", paths)
        tab.add_photos("me", [str(other) for other in others])
        names = [photo.file_name for photo in work_of(tab).photos]
        assert names[:2] == ["photo_0.png", "photo_1.png"]
        assert names[5:] == ["photo_0-2.jpg", "PHOTO_0-3.png", "ß.png"]
        assert work_of(tab).current == 5, "the first of those that were added"
        height, width = work_of(tab).photo.image.shape[:2]
        assert 3.9e6 < height * width <= 4.01e6
        assert width / height == pytest.approx(1.5, rel=1e-3)

    def test_only_the_latest_features_are_kept(self, tab: FinetuneTab, paths: list[str]) -> None:
        tab.add_photos("me", paths)
        for number in (1, 2, 3, 1):
            tab.on_photos("me", "pick", about(number))
        kept = [bool(photo.editor.session.features) for photo in work_of(tab).photos]
        assert kept == [False, True, True, True, False]

    def test_labels_belong_to_their_photo(self, tab: FinetuneTab, paths: list[str]) -> None:
        page = tab.add_photos("me", paths[:2])
        unlabelled = page.photos["rows"][0]["picture"]
        y, x = MIDDLES[0]
        strip = ask(tab, [[x, y, 1]])["page"][0]
        assert strip["rows"][0]["note"] == "1 object", "the answer brings what follows"
        assert strip["rows"][0]["picture"] != unlabelled, "the strip shows the mask"
        second = tab.turn("me", 1)
        assert second.view["value"]["objects"][0]["mask"] == ""
        late = {"key": "me", "scene": page.view["value"]["scene"], "sequence": 2**52}
        assert "another picture" in tab.ask(late | {"number": 1, "points": [], "box": None})["says"]
        assert tab.gesture("me", "rename", about(1, name="penny")).view["value"]["objects"][0]["name"] == "penny"
        first = tab.turn("me", -1)
        assert first.view["value"]["objects"][0]["name"] == "Object 1"
        assert tab.edit("me", "undo").view["value"]["objects"][0]["mask"] == ""
        assert ask(tab, [[x, y, 1]], preview=True)["object"]["mask"]


class TestHeldOut:
    def test_a_quarter_is_and_visitors_may_choose(self, tab: FinetuneTab, paths: list[str]) -> None:
        def marked(page: FinetunePage) -> list[int]:
            return [number for number, note in enumerate(notes(page)) if note.endswith("held out")]

        tab.add_photos("me", paths)
        label(tab, 0)
        assert "1 of 5" in work_of(tab).status()
        label(tab, 1, 3)
        page = tab.turn("me", 0)
        assert marked(page) == [1]
        assert page.status == (
            "Ready to train: 2 photos to train on, 1 held out for evaluation. 2 without objects are not used."
        )
        assert page.aside["value"] is False and page.train["interactive"] is True
        assert marked(tab.hold_out("me", True)) == [3]
        tab.on_photos("me", "pick", about(1))
        assert marked(tab.hold_out("me", True)) == [1, 3]
        tab.on_photos("me", "pick", about(0))
        assert "label another one to train on" in tab.hold_out("me", True).status
        for number in (0, 1, 3):
            tab.on_photos("me", "pick", about(number))
            page = tab.hold_out("me", False)
        assert "No photo is left for evaluation" in page.status

    @pytest.mark.slow
    def test_parts_stay_from_the_first_training_on(self, tab: FinetuneTab, paths: list[str]) -> None:
        tab.add_photos("me", paths)
        label(tab, 0, 2, 3)
        held_out = [photo.file_name for photo in work_of(tab).held_out()]
        assert held_out == ["photo_2.png"]
        assert "give more minutes" in trained(tab, 1e-5)[-2].progress
        label(tab, 4, 1)
        tab.on_photos("me", "drop", about(0))
        assert [p.file_name for p in work_of(tab).held_out()] == held_out, "the same, not one that was trained on"
        tab.on_photos("me", "drop", about(1))
        assert [p.file_name for p in work_of(tab).held_out()] == ["photo_4.png"], "one of the new ones"


def test_the_dataset_holds_what_was_labelled(tab: FinetuneTab, paths: list[str], tmp_path: Path) -> None:
    with pytest.raises(gr.Error, match="no photo has objects yet"):
        tab.make_file("me", "data")
    tab.add_photos("me", paths)
    label(tab, 0, 1, 4)
    for _ in range(2):  # the second replaces the first
        zipfile.ZipFile(tab.make_file("me", "data")).extractall(tmp_path / "data")
    assert [p.name for p in work_of(tab).folder.iterdir()] == ["labelled-photos.zip"]
    samples = open_dataset(tmp_path / "data").samples
    assert {sample.name for sample in samples} == {
        "train/photo_0.png", "val/photo_1.png", "train/photo_4.png"
    }  # fmt: skip
    for sample in samples:
        photo = next(p for p in work_of(tab).photos if p.file_name == Path(sample.name).name)
        read, masks = sample.read(), [item.mask for item in photo.editor.finished()]
        assert np.array_equal(read.image, photo.image)
        assert len(masks) == len(read.picture_masks) == 2
        assert all(np.array_equal(a, b) for a, b in zip(masks, read.picture_masks, strict=True))


@pytest.mark.slow
class TestTraining:
    def test_train_compare_use_and_download(self, tab: FinetuneTab, paths: list[str]) -> None:
        with pytest.raises(gr.Error, match="no fine-tuned model yet"):
            tab.make_file("me", "model")
        tab.add_photos("me", paths[:4])
        label(tab, 0, 1, 2, 3)
        pages = trained(tab, 0.15)
        told = [page.progress for page in pages if isinstance(page.progress, str)]
        assert any("Training: step" in text for text in told), told
        assert "Done" in told[-1]
        curves = [page.curve["value"] for page in pages if isinstance(page.curve, dict) and "value" in page.curve]
        assert {"loss", "1 click", "3 clicks", "box"} == set(curves[-1]["measure"])
        shown = next(page for page in pages if isinstance(page.results, dict) and page.results.get("visible"))
        assert shown.results["value"].count("data:image/jpeg") == 1
        assert [name for _, name in shown.choice["choices"]][:2] == ["nano", "mine-1"]
        assert shown.choice["value"] == "nano"
        assert pages[-1].train["interactive"] is True
        run = work_of(tab).runs[0]
        assert f"<td>{100 * run.result.before['click1']:.1f}</td>" in shown.results["value"]

        assert tab.latest("me")["value"] == "mine-1"
        assert tab.use("me", "mine-1")[0] == "mine-1"
        tuned = tab.models.of("me")
        assert tab.models.of("you") is tab.models.base, "others keep the app's model"
        weights = [dict(n.images.model.state_dict()) for n in (tuned, tab.models.base)]
        assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        assert tab.use("me", "nano")[0] == "nano"
        assert tab.models.of("me") is tab.models.base

        with zipfile.ZipFile(tab.make_file("me", "model")) as archive:
            assert "mine-1/finetuned.safetensors" in archive.namelist()
        again = work_of(tab).start(tuned, "decoder", 1e-5)
        assert again.plan.base == str(run.plan.out), "a fine-tuned model can be fine-tuned more"
        assert again.finished.wait(60)
        assert load_model(work_of(tab).finetuned["mine-1"], "cpu") is not None
        folder = work_of(tab).folder
        tab.store.visitors.drop("me")
        assert not folder.exists()

    def test_stop_ends_it_and_waiting_is_told(self, tab: FinetuneTab, paths: list[str]) -> None:
        tab.add_photos("me", paths)
        label(tab, 0, 1)
        other = tab.jobs.join("other")
        tab.begin("me")
        pages = tab.train("me", "decoder", 2)
        assert next(pages).progress == "Getting ready …"
        assert "1 job before yours" in next(pages).progress
        other.leave()
        while "Training: step" not in str(next(pages).progress):
            pass
        assert "press Stop first" in next(tab.train("me", "decoder", 2)).status
        tab.stop("me")
        assert "Stopped" in [p.progress for p in pages if isinstance(p.progress, str)][-1]
        assert tab.jobs.count == 0

    def test_what_a_training_has_learned_survives_a_reload(self, tab: FinetuneTab, paths: list[str]) -> None:
        tab.add_photos("me", paths)
        label(tab, 0, 1)
        tab.begin("me")
        pages = tab.train("me", "decoder", 0.3)
        while "before," not in str(next(pages).progress):  # something can be kept
            pass
        assert tab.store.visitors.move("me", "you")
        pages.close()  # as Gradio does when a page is gone
        page = tab.bring_back("you")
        assert len(page.photos["rows"]) == PHOTOS
        last = list(tab.follow("you"))[-1]
        assert last.progress.startswith("Done"), "it went on while the page was loaded again"
        assert (last.train["interactive"], last.stop["visible"]) == (True, False)
        assert "before" in last.results["value"]
        assert last.choice["choices"][1] == ("mine-1", "mine-1")
        assert tab.bring_back("you").results["value"] == last.results["value"], "and one more"
        assert list(tab.follow("nobody")) == [FinetunePage()], "nothing is emptied"
        tab.store.visitors.drop("you")

    def test_it_runs_where_the_model_is(
        self, tab: FinetuneTab, paths: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On the second GPU, if it is there."""
        tab.add_photos("me", paths)
        label(tab, 0, 1)
        monkeypatch.setattr(SAM2, "device", torch.device("cuda", 1))
        plans: list[FinetunePlan] = []
        run = work_of(tab).start(tab.models.base, "decoder", 1, lambda plan, tell: plans.append(plan))
        assert run.finished.wait(30)
        assert plans[0].device == "cuda:1"

    def test_closing_stops_and_deletes(self, tab: FinetuneTab, paths: list[str]) -> None:
        def until_stopped(plan: FinetunePlan, tell: object) -> None:
            while not plan.should_stop():
                time.sleep(0.02)

        tab.add_photos("me", paths)
        label(tab, 0, 1)
        work = work_of(tab)
        run: FinetuneRun = work.start(tab.models.base, "decoder", 10, until_stopped)
        folder = work.folder
        assert folder.exists()
        tab.store.visitors.drop("me")
        assert run.finished.wait(30)
        assert not folder.exists()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("fine-tune")]
        work.close()


DISCS = ((30, 30), (90, 40), (60, 125))  # (y, x) of their middles


def write_disc_photos(folder: Path, *brightness: float) -> list[str]:
    """Photos of three discs on noise, which are as bright as that."""
    ys, xs = np.mgrid[:120, :160]
    paths = [str(folder / f"{number}.png") for number in range(len(brightness))]
    for number, (path, share) in enumerate(zip(paths, brightness, strict=True)):
        image = np.random.default_rng(number).integers(60, 90, (120, 160, 3), np.uint8)
        for y, x in DISCS:
            inside = (ys - y) ** 2 + (xs - x) ** 2 < 15**2
            image[inside] = share * np.array((220, 60, 40)) + (1 - share) * image[inside]
        Image.fromarray(image).save(path)
    return paths


def finder(path: str) -> LoadedModel:
    """A model that was fine-tuned to find the discs of a photo."""
    model, image = load_model("nano", "cpu"), np.asarray(Image.open(path))
    ys, xs = np.mgrid[:120, :160]
    masks = [(ys - y) ** 2 + (xs - x) ** 2 < 15**2 for y, x in DISCS]
    train_detection(model, [SampleInMemory("0", LabelledFrames.of_picture(image, masks))], ("thing",), steps=60)
    return LoadedModel.of(model, "mine", FairQueue())


def test_one_click_labels_the_others(tab: FinetuneTab, tmp_path: Path) -> None:
    """By what they look like; or, once a model has learnt to find them, by itself."""
    paths = write_disc_photos(tmp_path, 1, 1, 1)
    assert list(tab.find_others("me")) == [FinetunePage()], "there is no photo yet"
    tab.add_photos("me", paths)
    assert list(tab.find_others("me")) == [FinetunePage()], "there is nothing that they could be like"
    ask(tab, [[30, 30, 1]])
    session = work_of(tab).photo.editor.session
    session.rename(session.active, "leaf")
    last = list(tab.find_others("me"))[-1]
    assert last.status.startswith("2 objects found; remove what is wrong.")
    assert [item.name for item in session.objects.values()] == ["leaf", "leaf (2)", "leaf (3)"]
    assert list(tab.find_others("me"))[-1].status.startswith("No other one was found.")
    tab.on_photos("me", "pick", about(1))
    assert notes(list(tab.find_others("me"))[-1])[1].startswith("3 objects"), "by an example in another photo"

    work_of(tab).chosen = finder(paths[0])
    tab.on_photos("me", "pick", about(2))
    list(tab.find_others("me"))
    names = [one.name for one in work_of(tab).photo.editor.finished()]
    assert names == ["thing", "thing (2)", "thing (3)"]


# which photo next


def offered(html: str) -> list[int]:
    """The photos that are to be labelled next."""
    return [int(number) for number in re.findall(r'data-number="(\d+)"', html)]


def found_with(*scores: float) -> list[FoundMask]:
    return [FoundMask((b"", 1, 1), (0, 0, 0, 0), 1.0, 1.0, (0, 0), (0, 0, 1, 1), score=score) for score in scores]


def test_how_sure_a_model_is_of_what_it_finds() -> None:
    assert mean_score([]) == 0, "of nothing at all"
    assert mean_score(found_with(0.5, 0.9)) == pytest.approx(0.7)
    assert mean_score(found_with(0.9)) > mean_score(found_with(0.9, 0.45)), "one near the threshold"


def next_photos(tab: FinetuneTab) -> str:
    """What the page says when a search for them has ended."""
    tab.begin("me")
    return list(tab.find_next("me"))[-1].next_photos


def test_photos_to_label_next_are_those_of_which_the_model_is_least_sure(
    tab: FinetuneTab, tmp_path: Path, warnings: list[str]
) -> None:
    assert next_photos(tab) == "" and "add photos first" in warnings[-1]
    paths = write_disc_photos(tmp_path, 1, 0.5, 0, 0.7, 0.3)
    tab.add_photos("me", paths)
    assert next_photos(tab) == "" and "Click on one of the things first" in warnings[-1]
    ask(tab, [[30, 30, 1]])
    told, photos = next_photos(tab), work_of(tab).photos
    assert offered(told) == [2] and "2.png: nothing found" in told, "there is nothing in it"
    assert [list(photo.scores) for photo in photos] == [[], *[["nano"]] * 4], "one that has objects is not looked at"
    tab.on_photos("me", "pick", about(offered(told)[0]))
    assert work_of(tab).current == 2
    least = min(photos[n].scores["nano"] for n in (1, 3, 4))
    assert f"hardly pay: mean scores are at least {least:.2f}" in tab.on_photos("me", "drop", about(2)).next_photos

    work_of(tab).chosen = finder(paths[0])
    assert tab.next_photos("me") == "", "another model has not looked at them"
    assert offered(next_photos(tab)) == sorted((1, 2, 3), key=lambda n: photos[n].scores["mine"])
    for photo, score in zip(photos, (0.0, 0.5, 0.4, 0.6), strict=True):
        photo.scores["mine"] = score
    assert offered(next_photos(tab)) == [2, 1, 3], "a model that finds by itself would say the same again"
    tab.on_photos("me", "pick", about(2))
    answer = ask(tab, [[30, 30, 1]])["page"][FOLLOWING.index("next_photos")]
    assert offered(answer) == [1, 3], "a click on a photo takes it off the list"
    assert offered(tab.edit("me", "undo").next_photos) == [2, 1, 3]
    for number in (1, 2, 3):
        tab.on_photos("me", "pick", about(number))
        ask(tab, [[30, 30, 1]])
    assert "train again" in tab.next_photos("me")
    assert "train again" in next_photos(tab) and "All photos have objects" in warnings[-1]
    work_of(tab).chosen = None
    assert "train again" in tab.next_photos("me"), "what the first model said is kept"


def test_a_search_through_photos_waits_its_turn_can_be_stopped_and_holds_nobody_up(
    tab: FinetuneTab, tmp_path: Path, warnings: list[str]
) -> None:
    tab.add_photos("me", write_disc_photos(tmp_path, 1, 0.5, 0.5, 0.5))
    ask(tab, [[30, 30, 1]])
    other = tab.jobs.join("other")
    tab.begin("me")
    pages = tab.find_next("me")
    first = next(pages)
    assert (first.find_next["interactive"], first.stop_find["visible"]) == (False, True)
    assert "1 job before yours" in next(pages).next_photos
    other.leave()
    photos = list(work_of(tab).photos)
    while int(re.search(r"(\d+)%", next(pages).next_photos)[1]) <= 33:  # the first of three is being searched
        pass
    elsewhere = threading.Thread(target=tab.on_photos, args=("me", "drop", about(2)), daemon=True)
    elsewhere.start()
    elsewhere.join(60)
    assert not elsewhere.is_alive() and len(work_of(tab).photos) == 3, "nothing is locked"
    tab.stop("me")
    last = list(pages)[-2]
    assert (last.find_next["interactive"], last.stop_find["visible"]) == (True, False)
    assert [list(photo.scores) for photo in photos] == [[], ["nano"], [], []], "what was done is kept"
    assert tab.jobs.count == 0
    tab.begin("me")
    tab.stop("me")
    session, before = photos[0].editor.session, len(photos[0].editor.session.objects)
    tab.on_photos("me", "pick", about(0))
    list(tab.find_others("me"))
    assert len(session.objects) == before, "stopped before it began"
    work_of(tab).runs.append(SimpleNamespace(finished=threading.Event(), stop=lambda: None))
    assert next_photos(tab) and "press Stop first" in warnings[-1]
    work_of(tab).runs.clear()
