"""How many threads are taken: by affinity, a container's quota, other programs, and what somebody chose."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sam2kit import threads
from sam2kit.doctor import examine
from sam2kit.model.sam2 import SAM2
from sam2kit.threads import ThreadCount, usable_cores


class Machine:
    """A made-up machine: eight cores, their jiffies, a clock, and what this process used."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.now, self.mine, self.busy, self.set_to = root, 0.0, 0.0, [0.0] * 8, 8
        (root / "proc/self").mkdir(parents=True)
        self.write()
        monkeypatch.setattr(threads, "_affinity", lambda: set(range(8)))
        monkeypatch.setattr(threads, "_mine", lambda: self.mine)
        monkeypatch.setattr(threads, "monotonic", lambda: self.now)
        monkeypatch.setattr(threads, "sleep", lambda seconds: self.passes(seconds))
        monkeypatch.setattr(threads.os, "sysconf", lambda _: 100)
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.set_to)
        monkeypatch.setattr(torch, "set_num_threads", lambda count: setattr(self, "set_to", count))
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            monkeypatch.delenv(name, raising=False)

    def write(self) -> None:
        lines = [f"cpu{n} {round(100 * s)} 0 0 999 0 0 0 0 0 0" for n, s in enumerate(self.busy)]
        (self.root / "proc/stat").write_text("\n".join(["cpu  1 2 3", *lines, "intr 5"]))

    def passes(self, seconds: float, mine: float = 0.0, others: float = 0.0) -> None:
        """Time goes by; `mine` and `others` are the cores that this process and other ones kept busy."""
        self.now += seconds
        self.mine += mine * seconds
        self.busy = [s + (mine + others) * seconds / 8 for s in self.busy]
        self.write()

    def quota(self, text: str, group: str = "/box") -> None:
        (self.root / "proc/self/cgroup").write_text(f"0::{group}\n")
        folder = self.root / f"sys/fs/cgroup{group}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(text)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_alone_all_cores_are_taken(machine: Machine) -> None:
    count = ThreadCount(machine.root)
    for _ in range(3):
        count.fit()
        machine.passes(2, mine=8)
    assert machine.set_to == 8


def test_cores_of_other_programs_are_left_to_them_and_taken_back(machine: Machine) -> None:
    count = ThreadCount(machine.root)
    for others, wanted in ((1, 7), (1, 7), (6.9, 1), (30, 1), (0.3, 8), (0.5, 7), (0, 8)):
        machine.passes(2, mine=machine.set_to, others=others)
        count.fit()
        assert machine.set_to == wanted, f"{others} cores are busy with other programs"


def test_it_looks_once_in_a_second(machine: Machine) -> None:
    count = ThreadCount(machine.root)
    machine.passes(0.5, others=7)
    count.fit()
    assert machine.set_to == 8
    machine.passes(0.6, others=7)
    count.fit()
    assert machine.set_to == 1
    machine.set_to = 8  # torch keeps the number for each calling thread: this is another one
    count.fit()
    assert machine.set_to == 1


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", 8), ("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("odd", 8)]
)
def test_the_quota_of_a_container(machine: Machine, text: str, cores: int) -> None:
    machine.quota(text)
    assert usable_cores(machine.root) == cores
    count = ThreadCount(machine.root)
    machine.passes(2)
    count.fit()
    assert machine.set_to == (cores if text != "150000 100000" else 1), "a thread that gets half a core slows the other"


def test_the_smallest_quota_above_counts(machine: Machine) -> None:
    machine.quota("300000 100000", "/outer")
    machine.quota("max 100000", "/outer/inner")
    assert usable_cores(machine.root) == 3


def test_quotas_of_older_systems(machine: Machine) -> None:
    (machine.root / "proc/self/cgroup").write_text("4:memory:/a\n3:cpu,cpuacct:/box\n")
    folder = machine.root / "sys/fs/cgroup/cpu,cpuacct/box"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(machine.root) == 8
    (folder / "cpu.cfs_quota_us").write_text("250000\n")
    assert usable_cores(machine.root) == 3


def test_what_somebody_chose_stays(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
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
    machine.quota("600000 100000")
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
