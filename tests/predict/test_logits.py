"""Packed logits."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch

from sam2kit.predict import frame_masks as module
from sam2kit.predict.frame_masks import CompactLogits


def test_rounding() -> None:
    logits = torch.randn(64, 64) * 6
    packed = CompactLogits.of(logits)
    unpacked = packed.tensor()
    assert (unpacked - logits.clamp(-8, 8 - 1 / 16)).abs().max() <= 1 / 32 + 1e-6
    assert torch.equal(CompactLogits.of(unpacked).tensor(), unpacked), "rounding twice changes nothing"
    sure = torch.where(torch.arange(256) > 100, 20.0, -30.0).expand(256, 256)
    assert len(CompactLogits.of(sure).png) < 2000
    packed.check((64, 64))
    for png, size in ((packed.png[:20], 64), (b"GIF89a" + packed.png[6:], 64), (b"", 64), (packed.png, 32)):
        with pytest.raises(ValueError, match=f"8-bit grey PNG of {size}x{size}"):
            CompactLogits(png).check((size, size))
    with pytest.raises(ValueError, match="damaged"):
        CompactLogits(packed.png[:40]).tensor()


def test_packed_by_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(16, 16) * 3
    wanted, goes_on = CompactLogits.of(logits).png, Event()
    with ThreadPoolExecutor(1) as busy:
        busy.submit(goes_on.wait)
        monkeypatch.setattr(module, "_packers", lambda: busy)
        waiting = [CompactLogits.of(logits) for _ in range(300)]
        assert sum(made._levels is not None for made in waiting) <= 256, "not too much waits"
        assert torch.equal(waiting[0].tensor(), CompactLogits(wanted).tensor()), "read before it is packed"
        assert waiting[1].png == wanted, "packed by who asks for it"
        assert pickle.loads(pickle.dumps(waiting[2])) == CompactLogits(wanted)
        goes_on.set()
    assert all(made._levels is None for made in waiting)
