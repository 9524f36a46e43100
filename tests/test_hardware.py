"""How many threads are taken: by affinity, a container's quota, other programs, and what was chosen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sam2kit import hardware
from sam2kit.doctor import examine
from sam2kit.hardware import ThreadCount, is_out_of_memory, usable_cores
from sam2kit.model.sam2 import SAM2


class Machine:
    """A made-up machine: eight cores, their jiffies, a clock, and what this process used."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.now, self.mine, self.busy, self.set_to = root, 0.0, 0.0, 0.0, 8
        (root / "proc/self").mkdir(parents=True)
        self.passes(0)
        monkeypatch.setattr(hardware, "_affinity", lambda: set(range(8)))
        monkeypatch.setattr(hardware, "_mine", lambda: self.mine)
        monkeypatch.setattr(hardware, "monotonic", lambda: self.now)
        monkeypatch.setattr(hardware, "sleep", lambda seconds: self.passes(seconds))
        monkeypatch.setattr(hardware.os, "sysconf", lambda _: 100)
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.set_to)
        monkeypatch.setattr(torch, "set_num_threads", lambda count: setattr(self, "set_to", count))
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)

    def passes(self, seconds: float, mine: float = 0.0, others: float = 0.0) -> None:
        """Time goes by; `mine` and `others` are the cores that this process and other ones kept busy."""
        self.now += seconds
        self.mine += mine * seconds
        self.busy += (mine + others) * seconds / 8
        lines = [f"cpu{n} {round(100 * self.busy)} 0 0 999 0 0 0 0 0 0" for n in range(8)]
        (self.root / "proc/stat").write_text("\n".join(["cpu  1 2 3", *lines, "intr 5"]))

    def quota(self, groups: str, folder: str, **limits: str) -> None:
        """What the control groups of the process may use: files named "cpu.KEY" in a folder."""
        (self.root / "proc/self/cgroup").write_text(groups)
        (self.root / "sys/fs/cgroup" / folder).mkdir(parents=True, exist_ok=True)
        for name, text in limits.items():
            (self.root / "sys/fs/cgroup" / folder / f"cpu.{name}").write_text(text)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_cores_of_other_programs_are_left_to_them_and_taken_back(machine: Machine) -> None:
    count = ThreadCount(machine.root)
    for others, wanted in ((0, 8), (1, 7), (1, 7), (6.9, 1), (30, 1), (0.3, 8), (0.5, 7), (0, 8)):
        machine.passes(2, mine=machine.set_to, others=others)
        count.fit()
        assert machine.set_to == wanted, f"{others} cores are busy with other programs"


def test_it_looks_once_in_a_second(machine: Machine) -> None:
    count = ThreadCount(machine.root)
    for seconds, wanted in ((0.5, 8), (0.6, 1)):
        machine.passes(seconds, others=7)
        count.fit()
        assert machine.set_to == wanted
    machine.set_to = 8  # torch keeps the number for each calling thread: this is another one
    count.fit()
    assert machine.set_to == 1


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("odd", 8)]
)
def test_the_quota_of_a_container(machine: Machine, text: str, cores: int) -> None:
    machine.quota("0::/box\n", "box", max=text)
    assert usable_cores(machine.root) == cores
    count = ThreadCount(machine.root)
    machine.passes(2)
    count.fit()
    assert machine.set_to == (cores if text != "150000 100000" else 1), "a thread that gets half a core slows the other"


def test_quotas_above_and_of_older_systems(machine: Machine) -> None:
    machine.quota("0::/outer\n", "outer", max="300000 100000")
    machine.quota("0::/outer/inner\n", "outer/inner", max="max 100000")
    assert usable_cores(machine.root) == 3, "the smallest counts"
    for quota, cores in (("-1\n", 8), ("250000\n", 3)):
        limits = {"cfs_quota_us": quota, "cfs_period_us": "100000\n"}
        machine.quota("4:memory:/a\n3:cpu,cpuacct:/box\n", "cpu,cpuacct/box", **limits)
        assert usable_cores(machine.root) == cores


def test_what_was_chosen_stays(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.set_to = 3  # torch.set_num_threads before the first pass
    count = ThreadCount(machine.root)
    machine.passes(2)
    count.fit()
    assert machine.set_to == 3, "never more"
    count.fix(5)
    machine.passes(2, others=8)
    count.fit()
    assert machine.set_to == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    machine.set_to = 6
    count = ThreadCount(machine.root)
    machine.passes(2, others=8)
    count.fit()
    assert machine.set_to == 6 and count.describe() == "6, as OMP_NUM_THREADS says"


def test_systems_that_do_not_say(machine: Machine) -> None:
    (machine.root / "proc/stat").unlink()
    count = ThreadCount(machine.root)
    machine.now += 5
    count.fit()
    assert machine.set_to == 8


def test_it_is_told_why(machine: Machine) -> None:
    machine.quota("0::/box\n", "box", max="600000 100000")
    count = ThreadCount(machine.root)
    machine.passes(2, others=3)
    count.fit()
    assert count.describe() == "5 (8 cores, of which the container may use 6, other programs use 3.0)"


def test_each_pass_on_a_cpu_asks(toy: SAM2, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("sam2kit.model.sam2.fit_threads", lambda: asked.append(1))
    for toy.compute_dtype in (torch.float32, torch.bfloat16, None):
        with toy.precision():
            pass
    assert len(asked) == 3


def test_doctor_tells() -> None:
    assert examine("nano", "cpu")["threads"] == f"{torch.get_num_threads()}, as OMP_NUM_THREADS says"


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.02 GB, max allowed: 18.13 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"), True),
        (MemoryError("Unable to allocate 3.00 GiB for an array"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), False),
        (ValueError("the book is called out of memory"), False),
        ("CUDA out of memory", False),
        (None, False),
    ],
)
def test_a_full_device(error: object, full: bool) -> None:
    assert is_out_of_memory(error) == full
