"""The app with nano for the load test: visitors who left are forgotten at once. Run as a module; prints its address."""

from __future__ import annotations

from pathlib import Path

from sam2kit.ui.layout import build_app, launch_options
from sam2kit.ui.limits import Limits
from sam2kit.ui.start import load_for_app

CLIPS = sorted((Path(__file__).parent.parent.parent / "assets" / "clips").glob("*.mp4"))

if __name__ == "__main__":
    limits = Limits(minutes_after_leaving=0.1, visitors=32)
    app = build_app(load_for_app("nano", "cpu"), [], CLIPS, limits=limits)
    app.launch(**launch_options(limits))
