"""A function of tensors, recorded once as a CUDA graph and played back: one launch in place of hundreds.

Surprise: a graph reads and writes at fixed addresses, so arguments are copied to where it reads, and results from
where it writes.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sam2kit.predict.pace import gpu_stream

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE

Function = Callable[..., Sequence[Tensor]]
Recorder = Callable[[Function, Sequence[Tensor]], tuple[Callable[[], None], Sequence[Tensor]]]

_WARM_UP = 2  # calls before recording: libraries choose their kernels, and tables of positions are made
_KEPT = 16  # recordings, for so many numbers of objects and of prompted frames
_LATELY = 8  # calls among which shapes that stay come twice

_recording = Lock()  # torch records one graph at a time


class OnceShapesStay:
    """Hands tensors to a way that takes preparation only if their shapes have come lately; to the plain way before.

    While the memory bank fills, each frame has shapes of its own.

    Args:
        plain: what is to be done.
        prepared: the same, quick, but slow at its first call for each shape.
    """

    def __init__(self, plain: Function, prepared: Function) -> None:
        self._plain, self._prepared = plain, prepared
        self._lately: deque[Hashable] = deque(maxlen=_LATELY)

    def __call__(self, *arguments: Tensor) -> Sequence[Tensor]:
        """What the function gives for these arguments."""
        shapes = _shapes(arguments)
        way = self._prepared if shapes in self._lately else self._plain
        self._lately.append(shapes)
        return way(*arguments)


class Recorded:
    """Plays the recording for the given shapes; makes it at their first call.

    Where recording fails, a warning says so once, and the function is called from then on.

    Args:
        function: of tensors on one device; it must not wait for the device, nor ask what a tensor holds.
        record: how to record; takes the function and its arguments, gives what plays it, and where its results come.
            None records CUDA graphs on CUDA devices, and calls the function on others.
    """

    def __init__(self, function: Function, record: Recorder | None = None) -> None:
        self._function = function
        self._record = record
        self._fails = False
        self._lock = Lock()  # two threads must not write to the same inputs
        self._kept: OrderedDict[Hashable, tuple[list[Tensor], Callable[[], None], Sequence[Tensor]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, *arguments: Tensor) -> Sequence[Tensor]:
        """What the function gives for these arguments."""
        if self._fails or (self._record is None and arguments[0].device.type != "cuda"):
            return self._function(*arguments)
        shapes = _shapes(arguments)
        with self._lock:
            if shapes not in self._kept and not self._makes(shapes, arguments):
                return self._function(*arguments)
            self._kept.move_to_end(shapes)
            inputs, play, results = self._kept[shapes]
            for mine, given in zip(inputs, arguments, strict=True):
                mine.copy_(given)
            play()
            return [t.clone() for t in results]

    def _makes(self, shapes: Hashable, arguments: Sequence[Tensor]) -> bool:
        """Make the recording for some shapes; False if it cannot be."""
        while len(self._kept) >= _KEPT:
            self._kept.popitem(last=False)
        try:
            inputs = [t.clone() for t in arguments]
            self._kept[shapes] = inputs, *(self._record or record_graph)(self._function, inputs)
        except RuntimeError as error:
            self._fails = True
            self._kept.clear()  # what they hold may be what is missing
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
    """Memory for what graphs compute on the way: one plays after the other, so they share it."""
    return torch.cuda.graph_pool_handle()


def _shapes(tensors: Sequence[Tensor]) -> Hashable:
    return tuple((t.shape, t.dtype, t.device) for t in tensors)
