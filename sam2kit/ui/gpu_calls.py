"""Work for a GPU that is lent for seconds: what goes there, and what comes back.

On a ZeroGPU Space the app's own process has no GPU; a function that `spaces.GPU` has decorated runs in a forked process
that has one for a while. Everywhere else none of this is used.

    the app's process                  the GPU's process
    arguments -> bytes -------------->  on the model's device -> function(model, ...)
    results, on the CPU <-------------  bytes <- each result that it yields

Surprises: arguments and results go as bytes of our own making, because torch would send each tensor through a file
handle and shared memory, and a long video has thousands. All work of a model goes through one decorated function, so
that one process, with the model in it, stays warm for all. The app's copy of the model stays on the CPU: the copy in
the GPU's process moves when it is first asked, so no emulated device is ever touched. Errors come back as themselves;
`spaces` alone would only tell their names.
"""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import pickle
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import cache
from typing import Any, TypeVar

import cv2
import gradio as gr
import torch
from torch import Tensor

from sam2kit.model.sam2 import SAM2
from sam2kit.threads import THREADS
from sam2kit.weights import choose_dtype

MOST_SECONDS = 60  # of a GPU that everybody may ask for


class NoGpu(ValueError):
    """No GPU could be had, or it was taken away; the message is for people, and says when to try again."""


Function = TypeVar("Function", bound=Callable[..., Any])
Work = Callable[..., Iterator[Any]]  # (model, *arguments), at the top of a module so that its name is enough
_WORK_OF: weakref.WeakKeyDictionary[SAM2, GpuWork] = weakref.WeakKeyDictionary()


def is_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space."""
    try:
        from spaces.config import Config
    except ImportError:
        return False
    return bool(Config.zero_gpu)


def on_gpu(function: Function, seconds: float | Callable[..., float]) -> Function:
    """The function as it runs on a lent GPU; on other machines the function itself.

    Args:
        function: a plain one or a generator; what it takes and gives must be picklable and on the CPU.
        seconds: to ask the GPU for, or how to tell from the arguments; the function is ended after them.
    """
    if not is_zero_gpu():
        return function
    import spaces

    return spaces.GPU(duration=seconds)(function)


class GpuWork:
    """What a model does on a lent GPU. Ask `of` for it: a model has one."""

    def __init__(self, model: SAM2) -> None:
        _keep_what_is_inherited()
        known = weakref.ref(model)  # `spaces` keeps what it decorates for ever

        def work(seconds: float, sent: bytes) -> Generator[bytes, None, None]:
            alive = known()
            assert alive is not None, "whoever asks holds the model"
            yield from _serve(alive, sent)

        self._run = on_gpu(work, lambda seconds, sent: seconds)

    @classmethod
    def of(cls, model: SAM2) -> GpuWork:
        """The work of a model; made, and so known to `spaces`, at first use."""
        if model not in _WORK_OF:
            _WORK_OF[model] = cls(model)
        return _WORK_OF[model]

    def run(self, seconds: int, function: Work, *arguments: Any) -> Generator[Any, None, None]:
        """What `function(model, *arguments)` yields on the GPU, one by one, on the CPU. Closing it stops the work.

        Args:
            seconds: after which the GPU is taken away; asking for less gives a better place in the queue.
        Raises:
            whatever the function raises.
            NoGpu: if there is no GPU to be had.
        """
        try:
            with closing(self._run(seconds, pack((function, arguments)))) as sent:
                for result in sent:
                    failed, value = unpack(result)
                    if failed:
                        raise value
                    yield value
        except gr.Error as error:  # what is ours comes as a value: this is what `spaces` says
            raise NoGpu(str(error.message)) from error

    def call(self, seconds: int, function: Work, *arguments: Any) -> Any:
        """The only thing that `function(model, *arguments)` yields; else as `run`."""
        (result,) = self.run(seconds, function, *arguments)
        return result


def _serve(model: SAM2, sent: bytes) -> Iterator[bytes]:
    """In the GPU's process: carry out what was sent."""
    _settle(model)
    function, arguments = unpack(sent, model.device)
    try:
        with closing(function(model, *arguments)) as results:
            for result in results:
                yield pack((False, result))
    except Exception as error:  # the caller's process decides what to do with it
        yield pack((True, _sendable(error)))


@cache
def _keep_what_is_inherited() -> None:
    """Let no forked process collect the garbage of this one: a decoder waits for its threads, which are not there."""
    os.register_at_fork(after_in_child=gc.freeze)


def _settle(model: SAM2) -> None:
    """Move into the GPU's process; nothing happens in the app's own."""
    if multiprocessing.parent_process() is None:
        return
    # threads do not survive a fork, and libraries that had some would wait for them for ever
    THREADS.fix(1)
    cv2.setNumThreads(0)
    if model.device.type == "cpu" and torch.cuda.is_available():
        model.to("cuda").cast_weights(choose_dtype("auto", torch.device("cuda")))


def _sendable(error: Exception) -> Exception:
    """The error, or one that says the same if it cannot be taken apart and put together again."""
    try:
        unpack(pack(error))
    except Exception:  # whatever its own code does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def pack(value: Any) -> bytes:
    """Pickle; tensors go as plain numbers, wherever they are."""
    file = io.BytesIO()
    _Packer(file, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


def unpack(packed: bytes, device: torch.device | str = "cpu") -> Any:
    """What was packed, with all its tensors on a device."""
    return _Unpacker(io.BytesIO(packed), device).load()


class _Packer(pickle.Pickler):
    def persistent_id(self, value: Any) -> tuple[torch.dtype, tuple[int, ...], bytes] | None:
        """A tensor as type, shape and bytes; None for everything else."""
        if not isinstance(value, Tensor):
            return None
        flat = value.detach().cpu().contiguous().flatten()
        return value.dtype, tuple(value.shape), flat.view(torch.uint8).numpy().tobytes()


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, device: torch.device | str) -> None:
        super().__init__(file)
        self._device = device

    def persistent_load(self, packed: tuple[torch.dtype, tuple[int, ...], bytes]) -> Tensor:
        """The tensor of what `persistent_id` made."""
        dtype, shape, content = packed
        flat = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return flat.reshape(shape).to(self._device)
