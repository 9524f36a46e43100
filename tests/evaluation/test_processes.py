"""Processes that share the work leave each other in good order."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.loopback_hub import free_port

PROGRAM = """
import atexit
from torch import distributed
atexit.register(lambda: print("open" if distributed.is_initialized() else "closed"))
from sam2kit.evaluation.processes import end_program, join_processes
for _ in range(2):
    print(join_processes("cpu").num_processes)
end_program(7)
"""


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
