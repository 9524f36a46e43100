"""Which network each visitor works with: the app's own, or one that the visitor has taught."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from threading import Lock

from sam2kit.config import NANO
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticOptions
from sam2kit.predict.health import HealthLimits
from sam2kit.predict.image import ImageOptions, ImagePredictor
from sam2kit.ui.turns import Turns
from sam2kit.ui.video_models import VideoModels
from sam2kit.ui.zero_gpu import image_predictor

# where the sliders of "segment everything" start: half of the published grid, for a wait that people accept
_EVERYTHING = AutomaticOptions(points_per_side=16)
# nano is less sure of itself, its edges are less steady, and it leaves crumbs
_EVERYTHING_NANO = AutomaticOptions(points_per_side=16, min_predicted_iou=0.5, min_stability=0.7, min_region_area=8)
_HEALTH_NANO = HealthLimits(min_iou=0.4)
_CRUMBS_NANO = ImageOptions(max_hole_area=8, max_speck_area=8)


@dataclass(frozen=True)
class Network:
    """A model with everything that the tabs do with it."""

    name: str
    images: ImagePredictor
    videos: VideoModels | None  # None: it only knows pictures
    everything: AutomaticOptions
    health: HealthLimits

    @classmethod
    def of(cls, model: SAM2, name: str, lock: AbstractContextManager[object]) -> Network:
        """The network of a model.

        Args:
            lock: held during each pass; all networks on one device share it.
        """
        is_nano = replace(model.config, side=NANO.side) == NANO  # also where nano was fine-tuned
        return cls(
            name,
            image_predictor(model, _CRUMBS_NANO if is_nano else None, lock),
            VideoModels(model, lock=lock) if model.memory_is_trained else None,
            _EVERYTHING_NANO if is_nano else _EVERYTHING,
            _HEALTH_NANO if is_nano else HealthLimits(),
        )


class Networks:
    """The visitors' choices.

    Args:
        base: what everybody begins with.
        passes: the lock of all networks.
    """

    def __init__(self, base: Network, passes: Turns | None = None) -> None:
        self.base, self._passes = base, passes
        self._chosen: dict[str, Network] = {}
        self._lock = Lock()

    @property
    def are_busy(self) -> bool:
        """Whether somebody is asking one of them, so that what can be left out should be."""
        return self._passes is not None and self._passes.count > 0

    def of(self, key: str) -> Network:
        """A visitor's network."""
        return self._chosen.get(key, self.base)

    def images(self, key: str) -> ImagePredictor:
        """A visitor's predictor for pictures."""
        return self.of(key).images

    def videos(self, key: str) -> VideoModels:
        """A visitor's models for videos.

        Raises:
            ValueError: if the visitor's network only knows pictures.
        """
        videos = self.of(key).videos
        if videos is None:
            raise ValueError(f"{self.of(key).name} only knows pictures; choose a model that can track")
        return videos

    def choose(self, key: str, network: Network) -> None:
        """Let a visitor work with a network."""
        with self._lock:
            self._chosen.pop(key, None)
            if network is not self.base:
                self._chosen[key] = network

    def move(self, key: str, to: str) -> None:
        """A visitor goes on under another key."""
        with self._lock:
            if key in self._chosen:
                self._chosen[to] = self._chosen.pop(key)

    def forget(self, key: str) -> None:
        """Let go of a visitor's network."""
        with self._lock:
            self._chosen.pop(key, None)
