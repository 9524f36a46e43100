"""Several processes that share the work, started by `accelerate launch`.

    accelerate launch --multi_gpu --num_processes 4 -m sam2kit evaluate DATA --out results

Without it there is one process, and accelerate is not even imported.

Surprise: `--multi_gpu` starts several processes without GPUs too (`--cpu` starts only one, whatever number is given).
They join each other on CPUs only if accelerate gets `cpu=True`; otherwise each believes to be alone.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

Item = TypeVar("Item")
_PATIENCE = timedelta(days=7)  # how long a process waits for slower ones; the default would give up too soon


@dataclass(frozen=True)
class Team:
    """This process among those that share the work."""

    rank: int = 0
    size: int = 1
    device: str | None = None  # where this process computes, if its launcher says so
    _accelerator: Accelerator | None = field(default=None, repr=False)

    @property
    def is_main(self) -> bool:
        """Whether this process gathers and prints."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """The part of the items that this process does."""
        return items[self.rank :: self.size]

    def wait(self) -> None:
        """Until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()


def started_together() -> bool:
    """Whether a launcher has started several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def join_team(device: str = "auto") -> Team:
    """Find the other processes, if there are any, for models on a device: "auto", "cpu" or "cuda"."""
    if not started_together():
        return Team()
    import torch
    from accelerate import InitProcessGroupKwargs

    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    accelerator = join_processes("cpu" if on_cpu else None, kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)])
    own = "cpu" if on_cpu else str(accelerator.device)
    return Team(accelerator.process_index, accelerator.num_processes, own, accelerator)


def join_processes(device: str | torch.device | None = None, **options: Any) -> Accelerator:
    """accelerate's Accelerator, which forgets earlier ones, and whose connections are closed when the program ends.

    If they stay open, torch sometimes aborts a process that has finished, and the launcher then ends the others, too.

    Args:
        device: where the models are. "cpu" must be given, or several processes would not find each other there; one
            process alone may have a certain GPU, such as "cuda:1"; None takes the best there is.
        options: those of Accelerator.
    Raises:
        ValueError: if several processes are to use one GPU.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import patch_environment
    from torch import distributed

    if not distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)  # it would insist on an earlier one's precision
    chosen = torch.device("cuda" if device is None else device)
    environment = {}
    if chosen.type == "cuda" and chosen.index is not None:  # accelerate takes the first GPU, unless this names one
        if started_together():
            raise ValueError(f"several processes take a GPU each, and {device} is one; leave its number out")
        environment = {"ACCELERATE_TORCH_DEVICE": str(chosen)}
    with patch_environment(**environment):
        accelerator = Accelerator(cpu=chosen.type == "cpu", **options)
    if accelerator.num_processes > 1:
        atexit.register(_leave)
    return accelerator


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():  # not closed yet
        distributed.destroy_process_group()


def mean_over_processes(value: float, accelerator: Accelerator) -> float:
    """The mean of a number that each process knows a part of; all of them have to ask."""
    if accelerator.num_processes == 1:
        return float(value)
    import torch

    shared = torch.tensor(value, dtype=torch.float32, device=accelerator.device)
    return accelerator.reduce(shared, "mean").item()


def end_program(code: int) -> NoReturn:
    """End with an exit code; one process of several ends at once, before torch's libraries are taken apart.

    While they are, torch aborts now and then even though all connections are closed.
    """
    if started_together():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
