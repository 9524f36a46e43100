"""Processes that share the work leave each other in good order."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from sam2kit.processes import join_processes
from sam2kit.training.trainer import dtype_for_all
from tests.loopback_hub import free_port

NAME = "ACCELERATE_TORCH_DEVICE"
PROGRAM = """
import atexit
from torch import distributed
atexit.register(lambda: print("open" if distributed.is_initialized() else "closed"))
from sam2kit.processes import end_program, join_processes
for _ in range(2):
    print(join_processes("cpu").num_processes)
end_program(7)
"""


@pytest.mark.slow
def test_connections_are_closed_when_the_program_ends() -> None:
    """Left open, torch aborts one end in twelve, and the launcher ends the other process with it."""
    environment = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdout=subprocess.PIPE,
            text=True,
            env=environment | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]
    assert [(process.communicate(timeout=120)[0].split(), process.returncode) for process in both] == [
        (["2", "2", "closed"], 7)
    ] * 2


def test_one_process_may_have_a_certain_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 1)
    chosen = []
    monkeypatch.setattr(
        "accelerate.Accelerator.__init__", lambda self, **options: chosen.append((os.environ.get(NAME), options["cpu"]))
    )
    for device in ("cuda:1", "cuda", "cpu", None, torch.device("cuda", 0)):
        join_processes(device)
    assert chosen == [("cuda:1", False), (None, False), (None, True), (None, False), ("cuda:0", False)]
    assert NAME not in os.environ
    monkeypatch.setenv(NAME, "cuda:3")
    join_processes("cuda:2")
    assert os.environ[NAME] == "cuda:3"


def test_several_processes_cannot_share_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="several processes take a GPU each, and cuda:1 is one; leave its number out"):
        join_processes("cuda:1")


def test_processes_agree_on_a_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """On GPUs of two kinds, one process would scale its gradients and the other would not."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr(
        "torch.cuda.get_device_capability", lambda device=None: ((8, 6), (7, 5))[torch.device(device).index or 0]
    )
    cuda = torch.device("cuda")
    assert dtype_for_all("auto", cuda) == torch.bfloat16
    assert dtype_for_all("auto", torch.device("cuda", 1)) == torch.float16
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert dtype_for_all("auto", cuda) == torch.float16
    assert dtype_for_all("bfloat16", cuda) == torch.bfloat16
    assert dtype_for_all("auto", torch.device("cpu")) == torch.float32
