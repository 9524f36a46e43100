"""Packed logits."""

from __future__ import annotations

import pytest
import torch

from sam2kit.predict.logits import CompactLogits, ExactLogits


def test_rounding() -> None:
    logits = torch.randn(64, 64) * 6
    packed = CompactLogits.of(logits)
    unpacked = packed.tensor()
    assert (unpacked - logits.clamp(-8, 8 - 1 / 16)).abs().max() <= 1 / 32 + 1e-6
    assert torch.equal(CompactLogits.of(unpacked).tensor(), unpacked), "rounding twice changes nothing"
    sure = torch.where(torch.arange(256) > 100, 20.0, -30.0).expand(256, 256)
    assert len(CompactLogits.of(sure).png) < 2000
    packed.check((64, 64))
    for damaged in (packed.png[:20], b"GIF89a" + packed.png[6:], b""):
        with pytest.raises(ValueError, match="8-bit grey PNG of 64x64"):
            CompactLogits(damaged).check((64, 64))
    with pytest.raises(ValueError, match="8-bit grey PNG of 32x32"):
        packed.check((32, 32))
    with pytest.raises(ValueError, match="damaged"):
        CompactLogits(packed.png[:40]).tensor()
    assert torch.equal(ExactLogits.of(logits).tensor(), logits)
