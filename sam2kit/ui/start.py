"""Which model the app starts with: the one asked for, or, openly, the bundled one."""

from __future__ import annotations

from pathlib import Path

from sam2kit.hub import HubError
from sam2kit.ui.layout import AppModel
from sam2kit.weights import load_model


def load_for_app(source: str, device: str = "auto", dtype: str = "auto", *, side: int | None = None) -> AppModel:
    """Load a model for the app.

    Only when the Hub cannot deliver does the bundled nano model step in, and the page says so. Anything else
    that is wrong is an error, as in `load_model`.
    """
    try:
        model = load_model(source, device, dtype, side=side)
    except HubError as error:
        notice = f"The small bundled model runs instead of {source}; its masks are much rougher than SAM 2.1's."
        terminal = (
            f"running the small bundled model (nano), whose masks are much rougher, instead of {source}: {error}. Mend "
            f"this and start again, or give a downloaded file: --model path/to/{Path(source).name}.pt"
        )
        return AppModel(load_model("nano", device, dtype), "nano", notice, f"{error}.", terminal)
    notice = "This is the small bundled model: quick, and much rougher than SAM 2.1." if source == "nano" else ""
    return AppModel(model, source, notice)
