"""The app with nano for tests with many visitors; who left is soon forgotten. A module to run: prints its address."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from threading import Thread

from sam2kit.app.layout import build_app, launch_options
from sam2kit.app.limits import Limits
from sam2kit.app.models import load_for_app

ROOT = Path(__file__).parent.parent.parent


def started(*command: str, **environment: str) -> tuple[subprocess.Popen[str], str, list[str]]:
    """An app as a process of its own, this module unless another one is named; its address; its log, which grows."""
    process = subprocess.Popen(
        [sys.executable, "-u", *(command or ("-m", "tests.app.load_app"))],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    assert process.stdout is not None
    log: list[str] = []
    for line in process.stdout:
        log.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            Thread(target=log.extend, args=(process.stdout,), daemon=True).start()  # so that the pipe is never full
            return process, found.group(), log
    raise RuntimeError("the app did not start: " + "".join(log))


if __name__ == "__main__":
    limits = Limits(minutes_after_leaving=0.1, visitors=32)
    app = build_app(
        load_for_app("nano", "cpu", side=256), [], sorted((ROOT / "assets" / "clips").glob("*.mp4")), limits=limits
    )
    app.launch(**launch_options(limits))
