"""The models that the page offers: what each takes on this machine, what it needs to download, how good it is.

One small model with made-up weights is measured, once for a machine, in a second or two. What the others take follows
from that by ratios which were measured side by side (`python -m sam2kit.app.offers` measures them anew).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import torch

from sam2kit.config import preset
from sam2kit.doctor import quicker_of_two, seconds_per_frame
from sam2kit.files import write_json
from sam2kit.hardware import THREADS, fit_threads, processor_name
from sam2kit.hub import cached_weights, hub_source
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.image import ImagePredictor
from sam2kit.predict.prompts import Prompt
from sam2kit.predict.video import VideoPredictor

YARDSTICK = "efficienttam-ti-512"
AT_ONCE = 1.0  # seconds within which a first click feels answered at once
_BUSY = 0.5  # cores that other programs use
_measuring = Lock()
_measured_here: dict[str, Seconds] = {}  # by this process


@dataclass(frozen=True)
class Seconds:
    """What a model takes."""

    first_click: float  # the picture is encoded, and the click answered
    frame: float  # of a clip, with one object and a full memory, encoding included


@dataclass(frozen=True)
class Offer:
    """A published model, or the bundled one."""

    name: str
    megabytes: int  # of its file; 0 is bundled
    accuracy: float | None  # J&F on SA-V test, as its authors published it
    first_click: float  # times the yardstick's
    frame: float

    def seconds(self, yardstick: Seconds) -> Seconds:
        """On the machine where the yardstick took so long."""
        return Seconds(self.first_click * yardstick.first_click, self.frame * yardstick.frame)

    def label(self, yardstick: Seconds | None) -> str:
        """A line of the menu."""
        parts = []
        if yardstick is not None:
            taken = self.seconds(yardstick)
            parts.append(f"first click about {_about(taken.first_click)}, a tracked frame {_about(taken.frame)}")
        if self.accuracy is not None:
            parts.append(f"J&F {self.accuracy}")
        source = hub_source(self.name)
        if source is None:
            parts.append("bundled, rough")
        else:
            parts.append("downloaded" if cached_weights(source) else f"{self.megabytes} MB to download")
        return f"{self.name}: {', '.join(parts)}"


# the most accurate first; EfficientTAM's authors give no number for its 512 models. Times were measured on two threads
# of an AMD EPYC (AVX-512), torch 2.13, in float32
OFFERS = (
    Offer("sam2.1-hiera-large", 898, 79.5, 66.9, 33.7),
    Offer("sam2.1-hiera-base-plus", 324, 78.2, 29.7, 17.6),
    Offer("sam2.1-hiera-small", 184, 76.6, 14.4, 11.8),
    Offer("sam2.1-hiera-tiny", 156, 76.5, 12.6, 11.8),
    Offer("edgetam", 56, 71.7, 2.7, 2.7),
    Offer("efficienttam-s-512", 136, None, 2.8, 1.8),
    Offer(YARDSTICK, 72, None, 1.0, 1.0),
    Offer("nano", 0, None, 0.39, 0.19),
)


def offer_for_clicks(yardstick: Seconds) -> Offer:
    """The most accurate one whose first click is answered at once; the quickest of the Hub where none is."""
    return next((o for o in OFFERS if o.seconds(yardstick).first_click <= AT_ONCE), OFFERS[-2])


def measured_seconds(dtype: torch.dtype) -> Seconds:
    """What the yardstick takes on the CPU; measured once for a machine, and kept among the user's caches."""
    file = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "sam2kit" / "seconds.json"
    fit_threads()
    machine = f"{processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {dtype}"
    with _measuring:
        known: dict[str, dict[str, float]] = {}
        with suppress(OSError, ValueError, TypeError):
            known = dict(json.loads(file.read_text()))
        with suppress(KeyError, TypeError):
            return Seconds(**known[machine])
        if machine in _measured_here:
            return _measured_here[machine]
        taken = seconds_of(YARDSTICK, dtype)
        if (THREADS.others or 0.0) >= _BUSY:  # not to be remembered longer than other programs may compute
            _measured_here[machine] = taken
            return taken
        with suppress(OSError):  # then it is measured again
            write_json({**known, machine: asdict(taken)}, file)
        return taken


def seconds_of(name: str, dtype: torch.dtype = torch.float32) -> Seconds:
    """Measure a preset on the CPU; made-up weights take as long as real ones."""
    model, device = SAM2(preset(name)).eval(), torch.device("cpu")
    model.compute_dtype = dtype
    side = model.config.side
    images, videos, frame = ImagePredictor(model), VideoPredictor(model), np.zeros((side, side, 3), np.uint8)
    click = Prompt([[side / 2, side / 2]])
    clicked, _ = quicker_of_two(lambda: images.predict(images.encode(frame), click), device)
    session = videos.open(np.stack([frame] * (model.config.memory.slots + 2)))
    videos.add_points(session, 0, 1, [[side / 2, side / 2]])
    return Seconds(clicked, min(seconds_per_frame(videos, session) for _ in range(2)))


def _about(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def main() -> None:
    """Print what OFFERS says of a machine: all models by the yardstick, in turns."""
    for offer in reversed(OFFERS):
        yardstick, taken = seconds_of(YARDSTICK), seconds_of(offer.name)
        first, frame = taken.first_click / yardstick.first_click, taken.frame / yardstick.frame
        print(f"{offer.name}: first click {first:.2f}, frame {frame:.2f} times {yardstick}", flush=True)


if __name__ == "__main__":
    main()
