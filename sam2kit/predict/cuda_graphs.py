"""The work of a tracked frame as a CUDA graph, or compiled: one launch in place of hundreds. Can be taken away.

Used by pipelining.py. A graph is recorded, or code compiled, once the memory bank is full and shapes stay.

Surprise: a graph reads and writes at fixed addresses, so arguments are copied to where it reads, and results from where
it writes; and weights must stay where they are: load or move them before the first frame.
"""

from __future__ import annotations

import inspect
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import torch
from torch import Tensor

from sam2kit.model.memory_bank import Memories
from sam2kit.model.sam2 import SAM2, ImageFeatures
from sam2kit.predict.options import SpeedOptions
from sam2kit.predict.tracker import KeptAnswer, StoredParts, track_frame

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE

Function = Callable[..., Sequence[Tensor]]
Recorder = Callable[[Function, Sequence[Tensor]], tuple[Callable[[], None], Sequence[Tensor]]]
Compiled = TypeVar("Compiled", bound=Callable[..., Any])

_WARM_UP = 2  # calls before a graph is recorded: libraries choose their kernels, and tables of positions are made
_MOST_GRAPHS = 16  # for so many numbers of objects and of prompted frames
_MOST_COMPILED = 64  # shapes for which code may be made; dynamo gives up after 8
_LATEST_CALLS = 8  # among which shapes that stay come twice

_recording = Lock()  # torch records one graph at a time


class FrameFunctions:
    """The two passes of the network that each tracked frame takes, compiled or as CUDA graphs if that is asked for."""

    def __init__(self, model: SAM2, speed: SpeedOptions) -> None:
        self._model, self._speed = model, speed
        self._together = speed.encoded_together(model.device) or 1
        self._encode = _compiled(model.encode_image) if speed.compile else model.encode_image
        self._functions: dict[StoredParts, Function] = {}

    def encode(self, squares: Tensor) -> ImageFeatures:
        """As `SAM2.encode_image`; compiled code has one size of batch, that of frames which are encoded together."""
        return (self._encode if len(squares) == self._together else self._model.encode_image)(squares)

    def track(
        self, features: ImageFeatures, memories: Memories, parts: StoredParts
    ) -> tuple[KeptAnswer, Tensor, Tensor | None]:
        """As `track_frame`; also the keys [B, layers, h * w, dim] of the memory, see `SAM2.keys_of`."""
        if parts not in self._functions:
            self._functions[parts] = self._made(partial(_track_tensors, self._model, parts))
        given = (*features.maps, *vars(memories).values())
        found = self._functions[parts](*(t for t in given if t is not None))
        memory, *rest = found[4:]
        return KeptAnswer(*found[:4], *rest[: parts.others]), memory, rest[-1] if parts.keys else None

    def _made(self, work: Function) -> Function:
        quick = _compiled(work) if self._speed.compile else work
        quick = CudaGraphs(quick) if self._speed.cuda_graphs else quick
        return work if quick is work else OnceShapesRepeat(work, quick)


def _track_tensors(model: SAM2, parts: StoredParts, *tensors: Tensor) -> Sequence[Tensor]:
    maps = 3 if model.config.decoder.takes_detail else 1
    features, memories = ImageFeatures(*tensors[:maps]), Memories(*tensors[maps:])
    answer, memory = track_frame(model, features, memories, parts=parts)
    others = () if answer.others is None else (answer.others,)
    return [*answer[:4], memory, *others, *((model.keys_of(memory),) if parts.keys else ())]


def _compiled(work: Compiled) -> Compiled:
    # tables of positions are kept by functools.cache; compiled code makes its own, which is all the same
    warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
    limit: dict[str, Any] = {}
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        limit = {"recompile_limit": _MOST_COMPILED}
    else:
        torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, _MOST_COMPILED)
    return cast("Compiled", torch.compile(work, dynamic=False, **limit))


class OnceShapesRepeat:
    """Calls a function that takes preparation for each shape only if shapes have come lately; the plain one before.

    While the memory bank fills, each frame has shapes of its own.
    """

    def __init__(self, plain: Function, prepared: Function) -> None:
        self._plain, self._prepared = plain, prepared
        self._latest: deque[Hashable] = deque(maxlen=_LATEST_CALLS)

    def __call__(self, *arguments: Tensor) -> Sequence[Tensor]:
        """What the function gives for these arguments."""
        shapes = _shapes(arguments)
        function = self._prepared if shapes in self._latest else self._plain
        self._latest.append(shapes)
        return function(*arguments)


class CudaGraphs:
    """Replays the graph for the given shapes; records it at their first call.

    Where recording fails, a warning says so once, and the function is called from then on; on other devices, too.

    Args:
        function: of tensors on one device; it must not wait for the device, nor ask what a tensor holds.
    """

    record: Recorder | None = None  # in place of `record_graph`; tests have no CUDA

    def __init__(self, function: Function) -> None:
        self._function = function
        self._fails = False
        self._lock = Lock()  # two threads must not write to the same inputs
        self._graphs: OrderedDict[Hashable, tuple[list[Tensor], Callable[[], None], Sequence[Tensor]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._graphs)

    def __call__(self, *arguments: Tensor) -> Sequence[Tensor]:
        """What the function gives for these arguments."""
        if self._fails or (self.record is None and arguments[0].device.type != "cuda"):
            return self._function(*arguments)
        shapes = _shapes(arguments)
        with self._lock:
            if shapes not in self._graphs and not self._makes(shapes, arguments):
                return self._function(*arguments)
            self._graphs.move_to_end(shapes)
            inputs, replay, results = self._graphs[shapes]
            for mine, given in zip(inputs, arguments, strict=True):
                mine.copy_(given)
            replay()
            return [t.clone() for t in results]

    def _makes(self, shapes: Hashable, arguments: Sequence[Tensor]) -> bool:
        """Record the graph for some shapes; False if it cannot be."""
        while len(self._graphs) >= _MOST_GRAPHS:
            self._graphs.popitem(last=False)
        try:
            inputs = [t.clone() for t in arguments]
            self._graphs[shapes] = inputs, *(self.record or record_graph)(self._function, inputs)
        except RuntimeError as error:
            self._fails = True
            self._graphs.clear()  # what they hold may be what is missing
            warnings.warn(f"CUDA graphs cannot be used here, so tracking goes on without: {error}", stacklevel=2)
        return not self._fails


def record_graph(function: Function, inputs: Sequence[Tensor]) -> tuple[Callable[[], None], Sequence[Tensor]]:
    """Record what a function does with these tensors on a CUDA device."""
    device = inputs[0].device
    with _recording, torch.cuda.device(device):
        aside, outside = gpu_stream(device, "track"), torch.cuda.current_stream()
        aside.wait_stream(outside)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                function(*inputs)
        outside.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=_pool(device), stream=aside, capture_error_mode="thread_local"):
            results = function(*inputs)
    return graph.replay, results


@cache
def _pool(device: torch.device) -> _POOL_HANDLE:
    """Memory for what graphs compute on the way: one is replayed after the other, so they share it."""
    return torch.cuda.graph_pool_handle()


def _shapes(tensors: Sequence[Tensor]) -> Hashable:
    return tuple((t.shape, t.dtype, t.device) for t in tensors)


@cache  # each stream has scratch memory of its own, and after 32 of them two would share it
def gpu_stream(device: torch.device, work: Literal["track", "encode"]) -> torch.cuda.Stream:
    """The stream for a kind of work on a CUDA device: tracking, which somebody waits for, goes before encoding."""
    return torch.cuda.Stream(device, priority=-1 if work == "track" else 0)


@contextmanager
def on_track_stream(device: torch.device, *, join: bool = True) -> Iterator[None]:
    """Work on the stream for tracking, after all that the current one has to do; which waits for it, if they join."""
    if device.type != "cuda":
        yield
        return
    outside, stream = torch.cuda.current_stream(device), gpu_stream(device, "track")
    stream.wait_stream(outside)
    with torch.cuda.stream(stream):
        yield
    if join:
        outside.wait_stream(stream)
