"""Models with the golden vectors' made-up weights, and the comparisons against them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sam2kit.config import preset
from sam2kit.model.sam2 import SAM2
from tests.golden import weights

GOLDEN = Path(__file__).parent / "golden"
LARGEST_ERRORS: dict[str, float] = {}  # comparison -> largest error seen, printed after the tests


def golden_model(size: str, version: str) -> SAM2:
    """A model of this size ("tiny", "base_plus", ...) and version ("2.0", "2.1") with golden weights."""
    prefix = "sam2.1" if version == "2.1" else "sam2"
    model = SAM2(preset(f"{prefix}-hiera-{size.replace('_', '-')}")).eval()
    model.load_state_dict(golden_weights(model))
    return model


def golden_weights(model: SAM2) -> dict[str, torch.Tensor]:
    """The made-up weights of a model."""
    made = {k: (np.asarray(weights.make(k, tuple(v.shape))), v.dtype) for k, v in model.state_dict().items()}
    return {k: torch.from_numpy(values).to(dtype) for k, (values, dtype) in made.items()}


def compare(name: str, got: torch.Tensor | np.ndarray, wanted: np.ndarray, limit: float) -> None:
    """Assert that two arrays agree to an absolute limit, and remember the error."""
    got = got.detach().cpu().numpy() if isinstance(got, torch.Tensor) else np.asarray(got)
    assert got.shape == wanted.shape, f"{name}: shape {got.shape}, wanted {wanted.shape}"
    error = float(np.abs(got.astype(np.float64) - wanted).max())
    note_error(name, error)
    assert error <= limit, f"{name}: largest error {error:.2e}, allowed {limit:.0e}"


def note_error(name: str, error: float) -> None:
    """Keep the largest."""
    LARGEST_ERRORS[name] = max(error, LARGEST_ERRORS.get(name, 0.0))
