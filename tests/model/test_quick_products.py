"""Quick float32 products: as exact as plain ones, only inside of a pass, and never where something would be lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Barrier, Thread

import pytest
import torch

from sam2kit.model import quick_products as room
from sam2kit.model.quick_products import exact_convolutions, products_are_exact, quick_products
from sam2kit.model.sam2 import SAM2

needs_switch = pytest.mark.skipif(not products_are_exact(), reason="no quick products on this machine")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    room._tried.cache_clear()
    yield
    room._tried.cache_clear()


def switch() -> str:
    return torch.backends.mkldnn.matmul.fp32_precision


@needs_switch
def test_products_are_float32() -> None:
    a, b = torch.randn(300, 400), torch.randn(400, 500)
    true = a.double() @ b.double()
    with quick_products():
        off = ((a @ b).double() - true).abs().max() / true.abs().max()
    assert off < 2e-6


@needs_switch
def test_the_switch_goes_back_after_the_last_pass(toy: SAM2) -> None:
    before = switch()
    with toy.precision():
        assert switch() == "bf16"
        with toy.precision():
            pass
        assert switch() == "bf16", "a pass still runs"
    assert switch() == before
    with pytest.raises(ZeroDivisionError), quick_products():
        1 / 0  # noqa: B018
    assert switch() == before


@needs_switch
def test_threads_do_not_switch_it_off_for_each_other() -> None:
    before, both, wrong = switch(), Barrier(2), []

    def work(longer: bool) -> None:
        with quick_products():
            both.wait()
            if longer:
                first.join()
            wrong.extend([] if switch() == "bf16" else ["off too early"])

    first, second = Thread(target=work, args=(False,)), Thread(target=work, args=(True,))
    first.start()
    second.start()
    second.join()
    assert wrong == []
    assert switch() == before


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
    monkeypatch.setattr(room, "_switch", lambda: amx)
    assert not products_are_exact()
    assert amx.fp32_precision == "none"
    with quick_products():
        assert amx.fp32_precision == "none"


def test_an_older_torch_has_no_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_switch", lambda: None)
    assert not products_are_exact()
    with quick_products():
        pass


def test_passes_in_lower_precision_do_not_touch_it(toy: SAM2) -> None:
    toy.compute_dtype = torch.bfloat16
    before = switch() if products_are_exact() else None
    with toy.precision():
        assert (switch() if products_are_exact() else None) == before


needs_newer = pytest.mark.skipif(room._convolutions() is None, reason="this torch has only the older switch")


@needs_newer
def test_float32_convolutions_are_exact_while_a_pass_runs() -> None:
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    assert before == "tf32", "torch's own choice, which is not float32"
    both, seen = Barrier(2), []

    def work(longer: bool) -> None:
        with exact_convolutions():
            both.wait()
            if longer:
                first.join()
            seen.append(conv.fp32_precision)

    first, second = Thread(target=work, args=(False,)), Thread(target=work, args=(True,))
    first.start()
    second.start()
    second.join()
    assert seen == ["ieee", "ieee"]
    assert conv.fp32_precision == before
    assert torch.backends.cudnn.allow_tf32, "the older name can be asked again"


def test_an_older_torch_has_another_name_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_convolutions", lambda: None)
    before = torch.backends.cudnn.allow_tf32
    with exact_convolutions():
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
def test_which_passes_need_it(
    toy: SAM2,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    compute: torch.dtype | None,
    weights: torch.dtype,
    exact: bool,
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
