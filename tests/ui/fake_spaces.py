"""A stand-in for the `spaces` package of a ZeroGPU Space: what it would lose on the way, this loses too."""

from __future__ import annotations

import inspect
import io
import pickle
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from types import ModuleType, SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from torch import Tensor


class _NoCuda(pickle.Pickler):
    def persistent_id(self, value: Any) -> None:
        assert not isinstance(value, Tensor) or value.device.type == "cpu", "a CUDA tensor must not cross"


def copied(value: Any) -> Any:
    """Through pickle, as between two processes."""
    file = io.BytesIO()
    _NoCuda(file).dump(value)
    return pickle.loads(file.getvalue())


@dataclass
class FakeSpaces:
    """What was decorated and asked for."""

    decorated: list[Callable] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    running: int = 0
    stopped: int = 0
    refusal: str = ""  # why no GPU is to be had

    def GPU(self, task: Callable | None = None, *, duration: Any = 60) -> Callable:
        """The decorator; only generators are used."""
        if task is None:
            return lambda function: self.GPU(function, duration=duration)
        assert inspect.isgeneratorfunction(task), "one way for all work"

        @wraps(task)
        def there(*arguments: Any) -> Iterator[Any]:
            if self.refusal:
                raise gr.Error(self.refusal, print_exception=False)
            self.durations.append(duration(*arguments) if callable(duration) else duration)
            self.running += 1
            results = task(*copied(arguments))
            try:
                for result in results:
                    yield copied(result)
            except GeneratorExit:
                self.stopped += 1
                results.close()
                raise
            finally:
                self.running -= 1

        self.decorated.append(there)
        return there


def install(monkeypatch: pytest.MonkeyPatch) -> FakeSpaces:
    """Make this process look like a ZeroGPU Space."""
    fake = FakeSpaces()
    module, config = ModuleType("spaces"), ModuleType("spaces.config")
    module.GPU, config.Config = fake.GPU, SimpleNamespace(zero_gpu=True)
    monkeypatch.setitem(sys.modules, "spaces", module)
    monkeypatch.setitem(sys.modules, "spaces.config", config)
    monkeypatch.setattr("sam2kit.ui.gpu_calls._WORK_OF", {})  # what was made before knows no ZeroGPU
    return fake
