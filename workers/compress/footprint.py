"""What a process and all that it started take: memory at its highest, and the time of its processors."""

from dataclasses import dataclass
from pathlib import Path

import psutil

KIB = 1024


@dataclass(frozen=True, slots=True)
class Footprint:
    """`peak_bytes` is the sum of each process's highest resident memory, an upper bound of the tree's."""

    peak_bytes: int
    cpu_s: float


def footprint_of(pid: int) -> Footprint:
    """Of the processes of the tree that live. Raises psutil.NoSuchProcess where the first is gone."""
    root = psutil.Process(pid)
    peak, cpu = 0, 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            peak += _highest(process.pid)
            times = process.cpu_times()
        except (psutil.Error, OSError):
            continue
        cpu += times.user + times.system
    return Footprint(peak, cpu)


def _highest(pid: int) -> int:
    """proc(5), "VmHWM": the high water mark of resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIB
    return 0
