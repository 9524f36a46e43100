"""A stand-in for the `spaces` package of a ZeroGPU Space, in this process: only bytes cross."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from inspect import isgeneratorfunction
from types import ModuleType, SimpleNamespace

import gradio as gr
import pytest

Work = Callable[[float, bytes], Iterator[bytes]]


@dataclass
class FakeSpaces:
    """What was decorated and asked for."""

    decorated: list[Work] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    running: int = 0
    stopped: int = 0
    refusal: str = ""  # why no GPU is to be had

    def GPU(self, *, duration: Callable[[float, bytes], float]) -> Callable[[Work], Work]:
        """The decorator, for generators."""

        def decorate(task: Work) -> Work:
            assert isgeneratorfunction(task), "one way for all work"

            def there(seconds: float, sent: bytes) -> Iterator[bytes]:
                if self.refusal:
                    raise gr.Error(self.refusal, print_exception=False)
                self.durations.append(duration(seconds, sent))
                self.running += 1
                results = task(seconds, bytes(sent))
                try:
                    for result in results:
                        assert isinstance(result, bytes), "nothing else crosses from process to process"
                        yield result
                except GeneratorExit:
                    self.stopped += 1
                    results.close()
                    raise
                finally:
                    self.running -= 1

            self.decorated.append(there)
            return there

        return decorate


def install(monkeypatch: pytest.MonkeyPatch) -> FakeSpaces:
    """Make this process look like a ZeroGPU Space."""
    fake = FakeSpaces()
    module, config = ModuleType("spaces"), ModuleType("spaces.config")
    module.GPU, config.Config = fake.GPU, SimpleNamespace(zero_gpu=True)
    monkeypatch.setitem(sys.modules, "spaces", module)
    monkeypatch.setitem(sys.modules, "spaces.config", config)
    monkeypatch.setattr("sam2kit.app.zero_gpu._WORK_OF", {})  # what was made before knows no ZeroGPU
    return fake
