"""Sixteen visitors at once, without a browser, who do what people do and what they should not.

Nobody gets another's masks, nobody is shut out, nothing is left behind. Each has a red disc of their own in each photo,
so that another's mask would be noticed. `python -m pytest tests/trust -m load`; they stay for a quarter of a minute;
SAM2KIT_LOAD_MINUTES=15 lets them stay longer.
"""

from __future__ import annotations

import base64
import io
import os
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.app.load_app import started
from tests.app.moving_disc import FRAMES, centre, disc, iou, write_disc_clip
from tests.figures import FIGURES
from tests.trust.test_corpus_app import TOUCHES

pytestmark = pytest.mark.load
VISITORS = 16
SECONDS = 60 * float(os.environ.get("SAM2KIT_LOAD_MINUTES", "0.25"))
SIZE_HW, RADIUS = (240, 320), 45


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process]]:
    """Address and process of a running app."""
    temporary = str(tmp_path_factory.mktemp("of_the_app"))
    process, address, _ = started(TMPDIR=temporary, OMP_NUM_THREADS="1")
    yield address, psutil.Process(process.pid)
    process.terminate()
    process.wait(20)


def visitors_folders(process: psutil.Process) -> list[Path]:
    """What the app has in its own temporary folder for visitors."""
    return list(Path(process.environ()["TMPDIR"]).glob("sam2kit-*"))


def resident(process: psutil.Process) -> int:
    """Bytes in memory when everybody is gone; Gradio looks after connections every few seconds only."""
    deadline = time.monotonic() + 60
    while visitors_folders(process):
        assert time.monotonic() < deadline, "the files of visitors who left are still there"
        time.sleep(0.5)
    time.sleep(2)
    return process.memory_info().rss


def shown(outputs: tuple) -> dict[str, Any]:
    """The scene among what a handler gave."""
    scenes = (o["value"] for o in outputs if isinstance(o, dict) and isinstance(o.get("value"), dict))
    return next((scene for scene in scenes if "scene" in scene), {})


class Visitor:
    """Clicks, opens, undoes, tracks, saves, sends nonsense; in an order of their own."""

    def __init__(self, address: str, number: int, folder: Path) -> None:
        self.address, self.number, self.folder = address, number, folder
        self.client = Client(address, verbose=False, download_files=str(folder / f"downloads{number}"))
        ids = {c["props"].get("elem_id"): c["id"] for c in self.client.config["components"]}
        self.canvas, self.video_canvas = ids["image-view"], ids["video-view"]
        self.web, self.sequence, self.rng = httpx.Client(timeout=60), 0, np.random.default_rng(number)
        self.done: Counter[str] = Counter()  # clicks, nonsense, photos, clips; put away: taken for one who had left
        self.slowest: dict[str, float] = defaultdict(float)  # seconds, by what was done
        self.keys: set[str] = set()
        self.wrong: list[str] = []

    def stay(self, seconds: float) -> Visitor:
        """Until the time is over."""
        self.open_photo()
        acts = [self.click, self.nonsense, self.open_photo, self.undo, self.clip]
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            act = acts[self.rng.choice(len(acts), p=[0.62, 0.16, 0.12, 0.06, 0.04])]
            began, kind = (
                time.perf_counter(),
                "job" if act == self.clip else "answer",
            )  # a job waits for those of others
            act()
            self.slowest[kind] = max(self.slowest[kind], time.perf_counter() - began)
        self.client.close()
        self.web.close()
        return self

    def send(self, canvas: int, sent: Any) -> httpx.Response:
        """A gesture on the canvas, as its JavaScript sends it."""
        session = self.client.session_hash
        body = {"data": sent, "component_id": canvas, "fn_name": "ask_server", "session_hash": session}
        return self.web.post(f"{self.address}/gradio_api/component_server", json=body)

    def ask(self, canvas: int, scene: dict[str, Any], points: list) -> dict[str, Any]:
        """These are all prompts of the active object; the answer."""
        self.sequence += 1
        sent = {"key": scene["key"], "scene": scene["scene"], "number": scene["active"], "points": points, "box": None}
        reply = self.send(canvas, sent | {"sequence": self.sequence})
        reply.raise_for_status()
        return reply.json()

    def expect(self, answer: dict[str, Any]) -> bool:
        """Whether an answer holds a mask; that of a visitor who was taken for one who left does not."""
        if "put away" in answer.get("says", ""):
            self.done["put away"] += 1
        elif not answer.get("object", {}).get("mask"):
            self.wrong.append(f"a click was answered with {answer}")
        else:
            return True
        return False

    def open_photo(self) -> None:
        self.x, self.y = (int(v) for v in self.rng.integers((60, 60), (SIZE_HW[1] - 60, SIZE_HW[0] - 60)))
        image = np.full((*SIZE_HW, 3), (90, 110, 90), np.uint8)
        cv2.circle(image, (self.x, self.y), RADIUS, (210, 50, 40), -1, cv2.LINE_AA)
        path = self.folder / f"photo{self.number}.png"
        Image.fromarray(image).save(path)
        self.scene = shown(self.client.predict(handle_file(path), api_name="/image_open"))
        self.keys.add(self.scene["key"])
        self.done["photos"] += 1

    def click(self) -> None:
        turn, reach = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(5, 25)
        answer = self.ask(self.canvas, self.scene, [[self.x + reach * np.cos(turn), self.y + reach * np.sin(turn), 1]])
        if not self.expect(answer):
            self.open_photo()
            return
        mask = np.array(Image.open(io.BytesIO(base64.b64decode(answer["object"]["mask"]))))
        small = cv2.resize(mask.astype(np.uint8), SIZE_HW[::-1], interpolation=cv2.INTER_AREA) > 0
        truth = cv2.circle(np.zeros(SIZE_HW, np.uint8), (self.x, self.y), RADIUS, 1, -1) > 0
        if iou(small, truth) <= 0.4:
            self.wrong.append("a visitor got another's mask")
        self.done["clicks"] += 1

    def nonsense(self) -> None:
        sent: Any = TOUCHES[self.rng.integers(len(TOUCHES))]
        if isinstance(sent, dict) and self.rng.random() < 0.5:
            sent = {**sent, "key": self.scene["key"], "scene": self.scene["scene"]}
        try:
            reply = self.send(self.canvas, sent)
        except ValueError:  # the client's own JSON knows no NaN
            return
        answer = reply.json()
        if reply.status_code != 200 or not ({"refused", "stale", "object"} & answer.keys()):
            self.wrong.append(f"{sent!r:.100} was answered with {reply.status_code} {answer!r:.100}")
        self.done["nonsense"] += 1

    def undo(self) -> None:
        self.scene = shown(self.client.predict(api_name="/image_undo")) or self.scene

    def clip(self) -> None:
        path = self.folder / f"clip{self.number}.mp4"
        if not path.exists():
            write_disc_clip(path)
        scene = shown(self.client.predict(handle_file(path), api_name="/video_open"))
        if not self.expect(self.ask(self.video_canvas, scene, [[*centre(0), 1]])):
            return
        says = self.track()
        if "press the button again" in says:  # it asks first where others make it take more than a minute
            says = self.track()
        try:
            file, _ = self.client.predict("overlay", "original", False, api_name="/video_masks")
        except AppError as error:  # those who wait for a job give no sign, so they are put away before others
            if "There is no mask yet" not in str(error):
                raise
            self.done["put away"] += 1
            return
        with zipfile.ZipFile(file["value"] if isinstance(file, dict) else file) as archive:
            masks = [np.array(Image.open(io.BytesIO(archive.read(f"{i:05d}.png")))) > 0 for i in range(FRAMES)]
        found = float(np.mean([iou(mask, disc(frame)) for frame, mask in enumerate(masks)]))
        if found < 0.7:
            self.wrong.append(f"a disc was tracked with a mean IoU of {found:.2f}: {says}")
        self.done["clips"] += 1

    def track(self) -> str:
        """Press Track; what the page says in the end."""
        self.client.predict(api_name="/video_begin_track")
        page = self.client.predict(api_name="/video_track")
        return next(part for part in page if isinstance(part, str))  # the status comes before other texts


def crowd(address: str, first: int, folder: Path, seconds: float) -> list[Visitor]:
    """Sixteen who come and go together."""
    with ThreadPoolExecutor(VISITORS) as pool:
        numbers = range(first, first + VISITORS)
        return list(pool.map(lambda number: Visitor(address, number, folder).stay(seconds), numbers))


def test_sixteen_visitors(app: tuple[str, psutil.Process], tmp_path: Path) -> None:
    address, process = app
    # the first of all bring what stays: code, threads, caches
    crowd(address, 1000, tmp_path, max(10, min(SECONDS / 10, 60)))
    before, threads, files = resident(process), process.num_threads(), process.num_fds()
    began = time.monotonic()
    seen = crowd(address, 2000, tmp_path, SECONDS)
    took, after = time.monotonic() - began, resident(process)
    done: Counter[str] = sum((one.done for one in seen), Counter())
    slowest = {kind: max(one.slowest[kind] for one in seen) for kind in ("answer", "job")}
    FIGURES.append(
        f"load: {VISITORS} visitors for {took:.0f} s: {done['clicks']} clicks, {done['nonsense']} wrong requests, "
        f"{done['photos']} photos, {done['clips']} clips; put away {done['put away']} times; slowest answer "
        f"{slowest['answer']:.1f} s, longest job {slowest['job']:.0f} s; memory {before / 2**20:.0f} MB before, "
        f"{after / 2**20:.0f} MB after they left ({after / before - 1:+.1%}); threads {threads} and {process.num_threads()}"
    )
    assert [wrong for one in seen for wrong in one.wrong] == []
    assert done["clicks"] > VISITORS
    assert sum(len(one.keys) for one in seen) == len(set.union(*(one.keys for one in seen))), "each has their own key"
    assert not visitors_folders(process), "files are left"
    assert after < 1.1 * before
    assert process.num_threads() < threads + 40, "Gradio keeps a pool of up to 40, and not a thread for each visitor"
    assert process.num_fds() <= files + 8


def test_a_visitor_cannot_use_anothers_canvas_without_the_key(app: tuple[str, psutil.Process], tmp_path: Path) -> None:
    address, _ = app
    one, two = Visitor(address, 1, tmp_path), Visitor(address, 2, tmp_path)
    one.open_photo()
    two.open_photo()
    for key in ("", "x" * 32, two.client.session_hash, one.scene["key"][:-1]):
        assert two.ask(two.canvas, {**one.scene, "key": key}, [[5, 5, 1]])["refused"]
    assert two.web.get(f"{address}/gradio_api/file={tmp_path / 'photo1.png'}").status_code in (403, 404)
