"""What float32 means: quick products as exact as plain ones, exact convolutions, and only while a pass runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Barrier, Thread
from typing import Any

import pytest
import torch

from sam2kit.model import attention
from sam2kit.model.attention import exact_convolutions, products_are_exact, quick_products
from sam2kit.model.sam2 import SAM2

needs_switch = pytest.mark.skipif(not products_are_exact(), reason="no quick products on this machine")
needs_newer = pytest.mark.skipif(attention._convolutions() is None, reason="this torch has only the older switch")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    attention._tried_products.cache_clear()
    yield
    attention._tried_products.cache_clear()


@needs_switch
def test_products_are_float32_while_a_pass_runs(toy: SAM2) -> None:
    matmul = torch.backends.mkldnn.matmul
    a, b = torch.randn(300, 400), torch.randn(400, 500)
    true, before = a.double() @ b.double(), matmul.fp32_precision
    with toy.precision():
        assert matmul.fp32_precision == "bf16"
        with toy.precision():
            off = ((a @ b).double() - true).abs().max() / true.abs().max()
        assert matmul.fp32_precision == "bf16", "a pass still runs"
    assert off < 2e-6
    with pytest.raises(ZeroDivisionError), quick_products():
        1 / 0  # noqa: B018
    toy.compute_dtype = torch.bfloat16
    with toy.precision():
        assert matmul.fp32_precision == before, "not in lower precision"


@pytest.mark.parametrize(
    ("kind", "backend", "inside"),
    [
        pytest.param(quick_products, "mkldnn.matmul", "bf16", marks=needs_switch),
        pytest.param(exact_convolutions, "cudnn.conv", "ieee", marks=needs_newer),
    ],
)
def test_threads_do_not_switch_it_back_for_each_other(kind: Any, backend: str, inside: str) -> None:
    library, name = backend.split(".")
    switch = getattr(getattr(torch.backends, library), name)
    before, both, seen = switch.fp32_precision, Barrier(2), []

    def work(longer: bool) -> None:
        with kind():
            both.wait()
            if longer:
                first.join()
            seen.append(switch.fp32_precision)

    first, second = (Thread(target=work, args=(longer,)) for longer in (False, True))
    first.start()
    second.start()
    second.join()
    assert seen == [inside, inside]
    assert switch.fp32_precision == before
    assert torch.backends.cudnn.allow_tf32, "the older name can be asked again"


def test_a_machine_that_would_lose_digits_keeps_plain_products(monkeypatch: pytest.MonkeyPatch) -> None:
    class Amx:
        """A switch that makes products of bfloat16."""

        fp32_precision = "none"

    amx = Amx()
    plain = torch.Tensor.__matmul__

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        rounded = amx.fp32_precision == "bf16" and a.dtype == torch.float32
        return plain(a.bfloat16(), b.bfloat16()).float() if rounded else plain(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    monkeypatch.setattr(attention, "_switch", lambda: amx)
    assert not products_are_exact()
    with quick_products():
        assert amx.fp32_precision == "none"


def test_an_older_torch_has_one_switch_of_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_switch", lambda: None)
    monkeypatch.setattr(attention, "_convolutions", lambda: None)
    before = torch.backends.cudnn.allow_tf32
    assert not products_are_exact()
    with quick_products(), exact_convolutions():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize(
    ("device", "compute", "weights", "exact"),
    [
        ("cuda", torch.float32, torch.float32, True),
        ("cuda", torch.bfloat16, torch.float32, False),
        ("cuda", torch.bfloat16, torch.bfloat16, False),
        ("cuda", None, torch.float32, False),
        ("cpu", torch.float32, torch.float32, False),
        ("mps", torch.float32, torch.float32, False),
    ],
)
def test_which_passes_need_exact_convolutions(
    toy: SAM2, monkeypatch: pytest.MonkeyPatch, device: str, compute: torch.dtype, weights: torch.dtype, exact: bool
) -> None:
    """As on a GPU: there is none here."""
    held: list[bool] = []

    @contextmanager
    def noted() -> Iterator[None]:
        held.append(True)
        yield

    monkeypatch.setattr("sam2kit.model.sam2.exact_convolutions", noted)
    monkeypatch.setattr("torch.autocast", lambda *_, **__: nullcontext())
    toy.to(weights).compute_dtype = compute
    monkeypatch.setattr(SAM2, "device", torch.device(device))
    with toy.precision():
        assert held == [True] * exact
