"""Sixteen visitors at once, who do what people do and what they should not: `python -m pytest tests/trust -m load`.

Each has a red disc of their own in each photo, so that another's mask would be noticed. In the suite they stay for a quarter of
a minute; SAM2KIT_LOAD_MINUTES=15 lets them stay longer.
"""

from __future__ import annotations

import base64
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from gradio_client import handle_file
from PIL import Image

from tests.figures import FIGURES
from tests.trust.test_corpus_app import TOUCHES
from tests.ui.moving_disc import centre, write_disc_clip
from tests.ui.test_load import SIZE_HW, Visitor, app, iou, resident, shown, visitors_folders

pytestmark = pytest.mark.load
VISITORS = 16
SECONDS = 60 * float(os.environ.get("SAM2KIT_LOAD_MINUTES", "0.25"))
__all__ = ["app"]  # the fixture


@dataclass
class Told:
    """What a visitor saw."""

    clicks: int = 0
    refused: int = 0
    photos: int = 0
    clips: int = 0
    put_away: int = 0  # times that the app took a slow visitor for one who had left
    worst: float = 1.0
    slowest: float = 0.0  # seconds
    longest_job: float = 0.0  # of a clip: opened, clicked, tracked after the others' clips
    wrong: list[str] = field(default_factory=list)


class Restless(Visitor):
    """Clicks, opens, undoes, tracks, saves, sends nonsense; in an order of their own."""

    def stay(self, seconds: float) -> Told:
        """Until the time is over."""
        self.told, self.rng = Told(), np.random.default_rng(self.number)
        self.open_photo()
        ends = time.monotonic() + seconds
        acts = [
            (self.click, 0.62),
            (self.nonsense, 0.16),
            (self.open_photo, 0.12),
            (self.undo, 0.06),
            (self.clip, 0.04),
        ]
        while time.monotonic() < ends:
            act = self.rng.choice(len(acts), p=[share for _, share in acts])
            began = time.perf_counter()
            acts[act][0]()
            took = time.perf_counter() - began
            if acts[act][0] == self.clip:  # waits for the jobs of others
                self.told.longest_job = max(self.told.longest_job, took)
            else:
                self.told.slowest = max(self.told.slowest, took)
        return self.told

    def open_photo(self) -> None:
        self.x, self.y = (int(v) for v in self.rng.integers((60, 60), (SIZE_HW[1] - 60, SIZE_HW[0] - 60)))
        image = np.full((*SIZE_HW, 3), (90, 110, 90), np.uint8)
        cv2.circle(image, (self.x, self.y), 45, (210, 50, 40), -1, cv2.LINE_AA)
        path = self.folder / f"photo{self.number}.png"
        Image.fromarray(image).save(path)
        self.scene = shown(self.client.predict(handle_file(path), api_name="/image_open"))
        self.told.photos += 1

    def click(self) -> None:
        turn, reach = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(5, 25)
        place = [self.x + reach * np.cos(turn), self.y + reach * np.sin(turn), 1]
        answer = self.ask(self.surface, self.scene, [place])
        if "put away" in answer.get("says", ""):
            self.told.put_away += 1
            self.open_photo()
            return
        if "object" not in answer:
            self.told.wrong.append(f"a click was answered with {answer}")
            return
        mask = np.array(Image.open(io.BytesIO(base64.b64decode(answer["object"]["mask"]))))
        small = cv2.resize(mask.astype(np.uint8), SIZE_HW[::-1], interpolation=cv2.INTER_AREA) > 0
        truth = np.zeros(SIZE_HW, np.uint8)
        cv2.circle(truth, (self.x, self.y), 45, 1, -1)
        self.told.worst = min(self.told.worst, iou(small, truth > 0))
        self.told.clicks += 1

    def nonsense(self) -> None:
        sent: Any = TOUCHES[self.rng.integers(len(TOUCHES))]
        if isinstance(sent, dict) and not float(self.rng.random()) < 0.5:
            sent = {**sent, "key": self.scene["key"], "scene": self.scene["scene"]}
        body = {
            "data": sent,
            "component_id": self.surface,
            "fn_name": "ask_server",
            "session_hash": self.client.session_hash,
        }
        try:
            reply = self.web.post(f"{self.address}/gradio_api/component_server", json=body)
        except ValueError:  # the client's own JSON knows no NaN
            return
        answer = reply.json()
        if reply.status_code != 200 or not ({"refused", "stale", "object"} & answer.keys()):
            self.told.wrong.append(f"{sent!r:.100} was answered with {reply.status_code} {answer!r:.100}")
        self.told.refused += 1

    def undo(self) -> None:
        self.scene = shown(self.client.predict(api_name="/image_undo")) or self.scene

    def clip(self) -> None:
        path = self.folder / f"clip{self.number}.mp4"
        if not path.exists():
            write_disc_clip(path)
        scene = shown(self.client.predict(handle_file(path), api_name="/video_open"))
        x, y = centre(0)
        answer = self.ask(self.video_surface, scene, [[x, y, 1]])
        if "put away" in answer.get("says", ""):
            self.told.put_away += 1
            return
        if not answer.get("object", {}).get("mask"):
            self.told.wrong.append(f"a click on a clip was answered with {answer}")
        self.client.predict(api_name="/video_begin")
        self.client.predict(api_name="/video_track")
        self.told.clips += 1


def crowd(address: str, first: int, folder: Path, seconds: float) -> list[Told]:
    """Sixteen who come and go together."""

    def visit(number: int) -> Told:
        visitor = Restless(address, number, folder)
        try:
            return visitor.stay(seconds)
        finally:
            visitor.leave()

    with ThreadPoolExecutor(VISITORS) as pool:
        return list(pool.map(visit, range(first, first + VISITORS)))


def test_sixteen_visitors(app: tuple[str, psutil.Process], tmp_path: Path) -> None:
    address, process = app
    crowd(
        address, 1000, tmp_path, max(10, min(SECONDS / 10, 60))
    )  # the first of all bring what stays: code, threads, caches
    before, threads, files = resident(process), process.num_threads(), process.num_fds()
    began = time.monotonic()
    told = crowd(address, 2000, tmp_path, SECONDS)
    took = time.monotonic() - began
    after = resident(process)
    clicks, nonsense, clips = (sum(getattr(t, name) for t in told) for name in ("clicks", "refused", "clips"))
    FIGURES.append(
        f"load: {VISITORS} visitors for {took:.0f} s: {clicks} clicks, {nonsense} wrong requests, {sum(t.photos for t in told)} photos, "
        f"{clips} clips; put away {sum(t.put_away for t in told)} times; slowest answer {max(t.slowest for t in told):.1f} s, longest job {max(t.longest_job for t in told):.0f} s; memory {before / 2**20:.0f} MB before, "
        f"{after / 2**20:.0f} MB after they left ({after / before - 1:+.1%}); threads {threads} and {process.num_threads()}"
    )
    assert [wrong for t in told for wrong in t.wrong] == []
    assert clicks > VISITORS
    assert min(t.worst for t in told) > 0.4, "somebody got another's mask"
    assert not visitors_folders(process), "files are left"
    assert after < 1.1 * before
    assert process.num_threads() < threads + 40, "Gradio keeps a pool of up to 40, and not a thread for each visitor"
    assert process.num_fds() <= files + 8
