"""A CUDA device that is not there: code for a GPU runs for real on a CPU, and each wait for the GPU is noted.

    with pretend_cuda() as notes:
        model = load_model("nano", "cuda")
        ...
    print(notes.table())

A tensor "there" is an `OnCuda`: it says cuda:0 and holds a CPU tensor, on which each op is carried out. So values are
real and code takes its GPU branches. It goes wrong where a GPU would:

    RuntimeError    an op on tensors of both devices; on an H2D copy that CUDA does not know
    TypeError       `.numpy()` of what is there
    EarlyRead       the host reads a copy before it has surely arrived, or overwrites what is still being copied
    Race            a stream reads what another one wrote without having waited for it
    CaptureError    the host waits while a graph is captured, or within `notes.capturing()`

A wait is one of these, noted with the innermost line of the package:

    item            .item(), bool(), float(), `if tensor:`
    D2H             .cpu(), .tolist(), and non_blocking copies to memory that is not pinned
    H2D             .to("cuda"), torch.tensor(..., device="cuda")
    H2D pageable    the same with non_blocking=True, from memory that is not pinned
    shape           nonzero, indexing by a bool mask, unique: how many there are must be known to go on
    sync            synchronize() of the device, a stream or an event

A captured graph is a list of ops on the tensors of the capture; until the first replay its results are NaN.

Surprise: torch's C++ knows "cuda" without CUDA well enough for autocast, but its autograd ends the process. So with
`training` it is stated "meta", and autocast is done here, in Python. What cannot be seen at all: speed, memory, kernels
that do not exist for a dtype, memory that is given to others too early (`record_stream` does nothing). Made for torch
2.13; its private parts are there from 2.2, autocast by device type from 2.4.
"""

# what torch writes of its own methods is narrower than what it takes
# mypy: disable-error-code="override"

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # now: it looks at functions that are replaced below
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

_PACKAGE = "sam2kit"
_CUDA = torch.device("cuda", 0)
_aten: Any = torch.ops.aten
_real = SimpleNamespace(
    to=Tensor.to, numpy=Tensor.numpy, tolist=Tensor.tolist, tensor=torch.tensor, as_tensor=torch.as_tensor,
    compatible=torch._has_compatible_shallow_copy_type, run=threading.Thread.run,
)  # fmt: skip


class EarlyRead(RuntimeError):
    """The host touches memory that a copy may still be at work on."""


class Race(RuntimeError):
    """A stream reads what another one may not have written yet."""


class CaptureError(RuntimeError):
    """The host waits while a graph is captured."""


Clock = dict[int, int]  # stream -> how much of its work is known to be done before


class _Here(threading.local):
    """What a thread is in."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.capture = False
        self.tape: list[tuple[Callable[..., Any], Any, Any, list[Tensor]]] | None = None


@dataclass
class Notes:
    """What happened on the device."""

    training: bool = False
    waits: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # kind, line of the package, op
    copies: Counter[str] = field(default_factory=Counter)  # those that nobody waits for, and graphs played
    launches: Counter[str] = field(default_factory=Counter)  # kernels, by op
    attention: Counter[tuple[str, bool, tuple[int, ...]]] = field(default_factory=Counter)  # dtype, masked?, of queries
    streams: int = 0  # made
    failures: list[tuple[str, Callable[[Any], bool], Exception]] = field(default_factory=list)
    pinned: dict[int, Any] = field(default_factory=dict)  # storages; they stay, so no address comes twice
    written: dict[int, tuple[int, int]] = field(default_factory=dict)  # address there -> stream, number of its work
    arriving: dict[int, tuple[int, int]] = field(default_factory=dict)  # the same for copies to pinned memory
    reading: dict[int, tuple[int, int]] = field(default_factory=dict)  # and from it
    latest: Clock = field(default_factory=dict)  # all that was given to the device
    host: Clock = field(default_factory=dict)  # of it, what the host knows to be done
    here: _Here = field(default_factory=_Here)

    def wait(self, kind: str, op: str) -> None:
        """The host waits."""
        place = _place()
        self.waits[kind, place, op] += 1
        if self.here.capture:
            raise CaptureError(f"{kind} by {op} at {place} while a graph is captured")
        if kind in ("item", "shape"):
            _merge(self.host, self.stream.clock)

    @property
    def stream(self) -> Stream:
        """The current one of this thread."""
        return self.here.stream or _DEFAULT

    @contextlib.contextmanager
    def capturing(self) -> Iterator[None]:
        """Within, each wait of this thread is an error."""
        before, self.here.capture = self.here.capture, True
        try:
            yield
        finally:
            self.here.capture = before

    def fail(self, op: str, when: Callable[[Any], bool] = lambda first: True, error: Exception | None = None) -> None:
        """Let an op fail, such as "convolution"; "graph" is the capture of one. None says that the device is full."""
        self.failures.append((op, when, error or torch.OutOfMemoryError("CUDA out of memory. (pretended)")))

    def may_fail(self, op: str, first: Any) -> None:
        """Called by each op with its first argument."""
        for name, when, error in self.failures:
            if name == op and when(first):
                raise error

    def clear(self) -> None:
        """Count anew."""
        for counter in (self.waits, self.copies, self.launches, self.attention):
            counter.clear()

    def table(self, per: int = 1) -> str:
        """Waits in rows, divided by a number of frames."""
        rows = sorted(self.waits.items(), key=lambda row: (row[0][0], -row[1]))
        stated = [f"  {n / per:8.2f}  {kind:12s}  {place:48s} {op}" for (kind, place, op), n in rows]
        return "\n".join(stated or ["  no waits"])


def _place() -> str:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        _, found, name = frame.f_code.co_filename.rpartition(f"/{_PACKAGE}/")
        if found:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "(outside)"


class Stream:
    """Stands for torch.cuda.Stream."""

    _ids = itertools.count()

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.device, self.priority, self.id = _CUDA, priority, next(Stream._ids)
        self.clock: Clock = {self.id: 0}
        _notes.streams += 1

    def wait_stream(self, other: Stream) -> None:
        _merge(self.clock, other.clock)

    def wait_event(self, event: Event) -> None:
        _merge(self.clock, event.clock)

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        _notes.wait("sync", "Stream.synchronize")
        _merge(_notes.host, self.clock)


class Event:
    """Stands for torch.cuda.Event."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.clock: Clock = {}

    def record(self, stream: Stream | None = None) -> None:
        self.clock = dict((stream or _notes.stream).clock)

    def synchronize(self) -> None:
        _notes.wait("sync", "Event.synchronize")
        _merge(_notes.host, self.clock)

    def elapsed_time(self, end: Event) -> float:
        return 1.0


def _merge(clock: Clock, other: Clock) -> None:
    for stream, done in other.items():
        clock[stream] = max(done, clock.get(stream, 0))


class Graph:
    """Stands for torch.cuda.CUDAGraph."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.tape: list[tuple[Callable[..., Any], Any, Any, list[Tensor]]] = []

    def replay(self) -> None:
        _notes.copies["graph replay"] += 1
        for func, args, kwargs, outs in self.tape:
            _check_streams([t for t in _leaves((args, *kwargs.values())) if isinstance(t, Tensor)])
            again = [t for t in _leaves((func(*args, **kwargs),)) if isinstance(t, Tensor)]
            for mine, now in zip(outs, again, strict=True):
                if mine is not now:
                    mine.copy_(now)
            _note_write(outs)


@contextlib.contextmanager
def _capture(
    graph: Graph, pool: Any = None, stream: Stream | None = None, capture_error_mode: str = ""
) -> Iterator[None]:
    """Stands for torch.cuda.graph."""
    _synchronize()
    _notes.may_fail("graph", graph)
    with _on(stream or Stream()), _notes.capturing():
        _notes.here.tape = []
        try:
            yield
            graph.tape = _notes.here.tape
        finally:
            _notes.here.tape = None
    for *_, outs in graph.tape:
        for out in outs:
            _notes.written.pop(_address(out), None)
            if out.is_floating_point():
                out.fill_(float("nan"))


@contextlib.contextmanager
def _on(stream: Stream | None) -> Iterator[None]:
    """Stands for torch.cuda.stream."""
    here = _notes.here
    before, here.stream = here.stream, stream or here.stream
    try:
        yield
    finally:
        here.stream = before


def _synchronize(device: Any = None) -> None:
    _notes.wait("sync", "torch.cuda.synchronize")
    _merge(_notes.host, _notes.latest)


class OnCuda(Tensor):
    """A tensor that says it is on cuda:0.

    Several methods of a tensor ask for the CUDA runtime before they ask a subclass, so they are here.
    """

    _inner: Tensor

    @staticmethod
    def __new__(cls: type[OnCuda], inner: Tensor, requires_grad: bool = False) -> OnCuda:
        made: OnCuda = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=_inside(),
            requires_grad=requires_grad,
        )
        made._inner = inner
        return made

    device = property(lambda self: _CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = is_meta = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnCuda({self._inner!r})"

    def __getitem__(self, index: Any) -> Tensor:
        view, tensors = _chosen(self, index)
        return _aten.index.Tensor(view, tensors) if tensors else view

    def __setitem__(self, index: Any, value: Any) -> None:
        view, tensors = _chosen(self, index)
        if not isinstance(value, Tensor):  # a number goes along as an argument
            value = OnCuda(_real.tensor(value, dtype=self.dtype))
        elif value.dim() == 0 and not isinstance(value, OnCuda):
            value = OnCuda(value.detach())
        if tensors:
            _aten.index_put_.default(view, tensors, value)
        else:
            view.copy_(value)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.unbind(0))

    def __invert__(self) -> Tensor:
        return _aten.bitwise_not.default(self)

    def contiguous(self, memory_format: Any = torch.contiguous_format) -> Tensor:
        return self if self.is_contiguous(memory_format=memory_format) else self.clone(memory_format=memory_format)

    def copy_(self, other: Tensor, non_blocking: bool = False) -> Tensor:
        return _aten.copy_.default(self, other, non_blocking)

    def nonzero(self, *, as_tuple: bool = False) -> Any:
        found = _aten.nonzero.default(self)
        return found.unbind(1) if as_tuple else found

    def new_tensor(self, data: Any, *, dtype: Any = None, **more: Any) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=_CUDA, **more)

    def requires_grad_(self, requires_grad: bool = True) -> OnCuda:
        super().requires_grad_(requires_grad and _notes.training)
        return self

    def data_ptr(self) -> int:
        return self._inner.data_ptr()

    def untyped_storage(self) -> Any:
        return self._inner.untyped_storage()

    def record_stream(self, stream: Any) -> None:
        """Nothing is freed too early here."""

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def tolist(self) -> Any:
        return self.item() if self.dim() == 0 else self.cpu().tolist()

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return self.item().__format__(spec) if self.dim() == 0 else repr(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnCuda:
        memo[id(self)] = copy = OnCuda(self._inner.detach().clone(), self.requires_grad)
        if getattr(self, "_is_param", False):
            copy._is_param = True
        return copy


def _inside() -> torch.device:
    """What C++ is stated."""
    return torch.device("meta") if _notes.training else _CUDA


def _chosen(whole: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
    """What slices and numbers of an index choose, and its tensors, one for each dimension up to the last of them."""
    parts = list(index) if isinstance(index, tuple) else [index]
    parts = [_real.as_tensor(p) if isinstance(p, list) or type(p).__name__ == "ndarray" else p for p in parts]
    if not any(p is Ellipsis for p in parts):
        parts.append(Ellipsis)
    rest = whole.dim() - sum(_dims_of(p) for p in parts)
    view, dim, tensors = whole, 0, dict[int, Tensor]()
    for part in parts:
        if part is Ellipsis:
            dim += rest
        elif part is None:
            view, dim = view.unsqueeze(dim), dim + 1
        elif isinstance(part, slice):
            if part != slice(None):
                view = _aten.slice.Tensor(view, dim, *part.indices(view.shape[dim]))
            dim += 1
        elif isinstance(part, Tensor) and (part.dim() or part.dtype == torch.bool):
            tensors[dim], dim = part, dim + _dims_of(part)
        else:
            view = view.select(dim, int(part))
    listed: list[Tensor | None] = []
    while tensors and len(listed) <= max(tensors):
        listed.append(tensors.get(len(listed)))
        if (last := listed[-1]) is not None and _dims_of(last) > 1:  # a mask of several dimensions stands for all
            tensors = {d - _dims_of(last) + 1 if d > len(listed) - 1 else d: t for d, t in tensors.items()}
    return (view.view(view.shape) if view is whole else view), listed


def _dims_of(part: Any) -> int:
    """How many dimensions a part of an index takes."""
    if part is None or part is Ellipsis:
        return 0
    return part.dim() if isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8) else 1


_MOVES = {"copy_", "_to_copy", "is_same_size", "set_"}  # may be given tensors of both devices
_INDEXES = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
_ASKS_SHAPE = {
    "nonzero", "masked_select", "unique_dim", "_unique2", "unique_consecutive", "bincount", "equal", "argwhere",
}  # fmt: skip
_MAKES = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """Carry out one op of torch, on either device or from one to the other."""
    name = func._schema.name.removeprefix("aten::")
    flat = [*_leaves(args), *_leaves(tuple(kwargs.values()))]
    there = [t for t in flat if isinstance(t, OnCuda)]
    here = [t for t in flat if isinstance(t, Tensor) and not isinstance(t, OnCuda)]
    _check_host(here, written=func._schema.is_mutable and not isinstance(args[0], OnCuda))
    asked = next((d for d in (kwargs.get("device"), *flat) if isinstance(d, torch.device)), None)
    to_cuda = bool(there) if asked is None else asked.type == "cuda" or bool(there and asked.type == "meta")
    if name in _INDEXES:
        to_cuda = isinstance(args[0], OnCuda)
        _check_index(name, to_cuda, args)
    elif there and name not in _MOVES and any(t.dim() for t in here):
        _refuse(f"{[list(t.shape) for t in here]} of the CPU among those of cuda:0 in {name}")
    if there:
        if name in _ASKS_SHAPE or (name == "repeat_interleave" and len(there) == 1 and len(args) == 1):
            _notes.wait("shape", name)
        elif name == "_local_scalar_dense":
            _notes.wait("item", name)
    if to_cuda or there:
        _notes.may_fail(name, args[0] if args else None)
        if not func.is_view:
            _check_streams([t._inner for t in there])
    how = ""
    if name == "copy_" and isinstance(args[0], OnCuda) != isinstance(args[1], OnCuda):
        to_cuda = isinstance(args[0], OnCuda)
        how = _note_copy(to_cuda, args[2] if len(args) > 2 else kwargs.get("non_blocking"), *args[:2])
    elif name == "_to_copy" and to_cuda != bool(there):
        how = _note_copy(to_cuda, kwargs.get("non_blocking"), None, args[0])
    in_args, in_kwargs = _each(args, _inner_of), {k: _each(v, _inner_of) for k, v in kwargs.items()}
    pins = in_kwargs.pop("pin_memory", False)
    if name == "_softmax" and in_args[2]:  # float16 to float32 in one go, which a CPU cannot
        in_args = (in_args[0].float(), in_args[1], False)
    out = func(*in_args, **in_kwargs)
    outs = [t for t in _leaves((out,)) if isinstance(t, Tensor)]
    if pins or how == "D2H pinned":
        _notes.pinned |= {_address(t): t.untyped_storage() for t in outs}
    if to_cuda or how:
        if name in _MAKES:  # at a place where something else may have been
            for out in outs:
                _notes.written.pop(_address(out), None)
        elif not func.is_view and name != "_local_scalar_dense":
            _notes.launches[name] += 1
            _note_write(outs)
        if how in ("H2D", "D2H"):
            _merge(_notes.host, _notes.stream.clock)
        if _notes.here.tape is not None and not func.is_view:
            _notes.here.tape.append((func, in_args, in_kwargs, outs))
    if not to_cuda:
        return out
    known = {id(t._inner): t for t in there}
    wrapped = _each(out, lambda t: (known[id(t)] if id(t) in known else OnCuda(t)) if isinstance(t, Tensor) else t)
    return return_and_correct_aliasing(func, args, kwargs, wrapped) if there else wrapped


def _leaves(values: tuple[Any, ...] | list[Any]) -> Iterator[Any]:
    """What is in lists and tuples within each other; several times faster than torch's own."""
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _leaves(value)
        else:
            yield value


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same lists and tuples with all that is in them changed."""
    if isinstance(value, (tuple, list)):
        return type(value)([_each(v, change) for v in value])
    return change(value)


def _inner_of(value: Any) -> Any:
    if isinstance(value, OnCuda):
        return value._inner
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _refuse(stated: str) -> None:
    raise RuntimeError(f"Expected all tensors to be on the same device, but found {stated} at {_place()}")


def _check_index(name: str, to_cuda: bool, args: Any) -> None:
    values = args[2] if len(args) > 2 else None
    if values is not None and isinstance(values, OnCuda) != to_cuda and (values.dim() or not to_cuda):
        _refuse(f"values of another device in {name}")
    for index in (i for i in args[1] if i is not None):
        if isinstance(index, OnCuda) and not to_cuda:
            _refuse("indices of cuda:0 into a tensor of the CPU")
        if to_cuda and index.dtype in (torch.bool, torch.uint8) and (values is None or values.numel() > 1):
            _notes.wait("shape", f"{name} (bool mask)")
        if to_cuda and not isinstance(index, OnCuda):
            _notes.wait("H2D", f"{name} (index of the CPU)")


def _note_copy(to_cuda: bool, non_blocking: bool | None, into: Tensor | None, source: Tensor) -> str:
    """Note a copy between the devices; gives its kind."""
    host = source if to_cuda else into
    pinned = host is None or _address(host) in _notes.pinned
    kind = ("H2D" if to_cuda else "D2H") + (" pinned" if pinned else " pageable" if to_cuda else "") * bool(
        non_blocking
    )
    if not kind.endswith("pinned"):
        _notes.wait(kind, "copy")
        return kind
    _notes.copies[kind] += 1
    if to_cuda:
        stream = _notes.stream
        _notes.reading[_address(source)] = stream.id, stream.clock[stream.id] + 1
    return kind


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _note_write(outs: list[Tensor]) -> None:
    stream = _notes.stream
    stream.clock[stream.id] += 1
    _notes.latest[stream.id] = stream.clock[stream.id]
    for out in outs:
        known = _notes.arriving if (address := _address(out)) in _notes.pinned else _notes.written
        known[address] = stream.id, stream.clock[stream.id]


def _check_streams(tensors: list[Tensor]) -> None:
    """Whether what the current stream reads is there."""
    for tensor in tensors:
        stream, number = _notes.written.get(_address(tensor), (0, 0))
        if max(_notes.stream.clock.get(stream, 0), _notes.host.get(stream, 0)) < number:
            raise Race(f"stream {_notes.stream.id} reads what stream {stream} wrote, without waiting, at {_place()}")


def _check_host(tensors: list[Tensor], *, written: bool = False) -> None:
    """Whether the host may read these, and write to the first."""
    for i, tensor in enumerate(tensors):
        address = _address(tensor) if _notes.pinned else 0
        if address in _notes.pinned:
            for known in (_notes.arriving, _notes.reading if written and i == 0 else {}):
                stream, number = known.get(address, (0, 0))
                if _notes.host.get(stream, 0) < number:
                    raise EarlyRead(f"a copy is still on its way, at {_place()}")


class _Mode(TorchDispatchMode):
    """Catches what no OnCuda is part of yet: what makes tensors, and copies to the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


_LOWER = {
    "linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm", "einsum", "conv1d", "conv2d", "conv3d",
    "conv_transpose2d",
}  # fmt: skip
_FLOAT32 = {
    "layer_norm", "group_norm", "softmax", "log_softmax", "pow", "__pow__", "exp", "sum", "cumsum", "prod", "norm",
    "mse_loss", "l1_loss", "smooth_l1_loss", "cross_entropy", "binary_cross_entropy_with_logits", "cosine_similarity",
}  # fmt: skip


class _Autocast(TorchFunctionMode):
    """Autocast of the most common functions, for what C++ takes for "meta"."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if torch.is_autocast_enabled("cuda") and name in _LOWER | _FLOAT32:
            dtype = torch.get_autocast_dtype("cuda") if name in _LOWER else torch.float32

            def cast(value: Any) -> Any:
                floats = isinstance(value, OnCuda) and value.is_floating_point() and value.dtype != torch.float64
                return value.to(dtype) if floats else value

            with torch._C.DisableTorchFunction():
                args, kwargs = _each(args, cast), {k: _each(v, cast) for k, v in kwargs.items()}
        return func(*args, **kwargs)


def _attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any) -> Tensor:
    """Stands for F.scaled_dot_product_attention: notes by what a GPU chooses its kernel."""
    given = [t for t in (query, key, value, attn_mask) if t is not None]
    if any(isinstance(t, OnCuda) for t in given):
        if not all(isinstance(t, OnCuda) for t in given):
            _refuse("tensors of both in scaled_dot_product_attention")
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else query.dtype
        if not torch.is_autocast_enabled("cuda") and not query.dtype == key.dtype == value.dtype:
            raise RuntimeError(
                f"Expected query, key, and value to have the same dtype, but got {query.dtype}, {key.dtype}"
            )
        _notes.may_fail("scaled_dot_product_attention", query)
        _notes.attention[str(dtype).removeprefix("torch."), attn_mask is not None, tuple(query.shape)] += 1
        query, key, value = (t.to(dtype) for t in (query, key, value))
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    return scores.softmax(dim=-1).to(value.dtype) @ value


def _is_cuda(device: Any) -> bool:
    return isinstance(device, (str, torch.device)) and str(device).partition(":")[0] == "cuda"


def _to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """A build without CUDA cannot find out which "cuda" is meant."""
    wanted = [v for v in (*args, *kwargs.values()) if v is not None and v is not False and v is not True]
    same = isinstance(self, OnCuda) and wanted and all(_is_cuda(v) or v is self.dtype for v in wanted)
    if same and not kwargs.get("copy") and True not in args[2:]:
        return self
    args = tuple(_CUDA if _is_cuda(v) else v for v in args)
    return _real.to(self, *args, **{k: _CUDA if _is_cuda(v) else v for k, v in kwargs.items()})


def _made(make: Callable[..., Tensor], data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
    """torch.tensor and torch.as_tensor."""
    if isinstance(data, OnCuda) and make is _real.as_tensor:
        return data.to(device=device or _CUDA, **kwargs)
    made = make(data, *args, device=None if _is_cuda(device) else device, **kwargs)
    return made.to(_CUDA) if _is_cuda(device) else made


def _pin_memory(self: Tensor, device: Any = None) -> Tensor:
    if isinstance(self, OnCuda):
        raise RuntimeError("cannot pin a tensor of cuda:0; only dense CPU tensors can be pinned")
    copy = self if _address(self) in _notes.pinned else self.clone()
    _notes.pinned[_address(copy)] = copy.untyped_storage()
    return copy


def _on_host(method: Callable[..., Any]) -> Callable[..., Any]:
    """What reads memory without an op."""

    def read(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(self, OnCuda):
            _check_host([self])
        return method(self, *args, **kwargs)

    return read


def _enter_inference(self: Any) -> None:
    """Tensor subclasses and inference mode do not go together: views of weights would have no version."""
    self.before = torch.is_grad_enabled()
    torch._C._set_grad_enabled(not self.mode and _notes.training)


def _leave_inference(self: Any, *_: Any) -> None:
    torch._C._set_grad_enabled(self.before)


_notes = Notes()
_DEFAULT = Stream()


@contextlib.contextmanager
def pretend_cuda(*, training: bool = False) -> Iterator[Notes]:
    """A CUDA device within this; see the top. With `training` gradients are wanted; autocast is less faithful then."""
    global _notes
    _notes = Notes(training=training)
    memory = 16 * 2**30  # bytes, all of them free
    about = SimpleNamespace(name="pretended", major=8, minor=9, total_memory=memory, multi_processor_count=1)

    def run(self: threading.Thread) -> None:
        """Modes belong to threads, so new ones get theirs."""
        with _modes(training):
            _real.run(self)

    nothing = lambda *_, **__: None  # noqa: E731
    cuda = {
        "_lazy_init": nothing, "is_available": lambda: True, "is_initialized": lambda: True, "device_count": lambda: 1,
        "current_device": lambda: 0, "set_device": nothing, "device": lambda device: contextlib.nullcontext(),
        "get_device_properties": lambda device=None: about, "get_device_capability": lambda device=None: (8, 9),
        "get_device_name": lambda device=None: "pretended", "is_bf16_supported": lambda emulated=True: True,
        "Stream": Stream, "Event": Event, "stream": _on, "current_stream": lambda device=None: _notes.stream,
        "default_stream": lambda device=None: _DEFAULT, "synchronize": _synchronize,
        "CUDAGraph": Graph, "graph": _capture, "graph_pool_handle": lambda: (0, 1),
        "is_current_stream_capturing": lambda: _notes.here.tape is not None,
        "empty_cache": nothing, "mem_get_info": lambda device=None: (memory, memory),
        "manual_seed": nothing, "manual_seed_all": nothing,
        "amp.common.amp_definitely_not_available": lambda: False,
    }  # fmt: skip
    rest = {
        "nn.functional.scaled_dot_product_attention": _attention, "tensor": functools.partial(_made, _real.tensor),
        "as_tensor": functools.partial(_made, _real.as_tensor),
        "_has_compatible_shallow_copy_type":
            lambda a, b: not isinstance(a, OnCuda) and not isinstance(b, OnCuda) and _real.compatible(a, b),
    }  # fmt: skip
    methods = {
        "to": _to, "cuda": lambda self, *_, **more: _to(self, _CUDA, **more), "pin_memory": _pin_memory,
        "is_pinned": lambda self, device=None: _address(self) in _notes.pinned,
        "numpy": _on_host(_real.numpy), "tolist": _on_host(_real.tolist),
    }  # fmt: skip
    _forget_caches()
    with contextlib.ExitStack() as stack:
        for name, value in ({f"cuda.{k}": v for k, v in cuda.items()} | rest).items():
            stack.enter_context(mock.patch(f"torch.{name}", value))
        for name, method in methods.items():
            stack.enter_context(mock.patch.object(Tensor, name, method))
        stack.enter_context(mock.patch.object(threading.Thread, "run", run))
        stack.enter_context(mock.patch.object(torch.inference_mode, "__enter__", _enter_inference))
        stack.enter_context(mock.patch.object(torch.inference_mode, "__exit__", _leave_inference))
        stack.callback(_forget_caches)
        stack.enter_context(_modes(training))
        yield _notes


@contextlib.contextmanager
def _modes(training: bool) -> Iterator[None]:
    mode: Any = _Mode
    with torch.set_grad_enabled(training), mode(), _Autocast() if training else contextlib.nullcontext():
        yield


def _forget_caches() -> None:
    """Tables that the package keeps for a device are not for another pretence of it."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == _PACKAGE:
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()
