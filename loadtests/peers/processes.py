"""What a server's processes took of the machine, as the kernel counts it (proc(5))."""

import os
import time
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children since they started, in user and kernel. Good to 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    user, system = int(fields[11]), int(fields[12])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (user + system) / TICKS_PER_S + sum(cpu_s(int(child)) for child in children)


def resident_bytes(pid: int) -> int:
    """`VmRSS` of one process."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def machine_busy_s() -> float:
    """Seconds that all cores together were at work since the machine started."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / TICKS_PER_S


def cores_busy_with_others(seconds: float = 1.0) -> float:
    """How many cores are at work while we do nothing: above 0.1, trust the ratios only."""
    before = machine_busy_s()
    time.sleep(seconds)
    return round((machine_busy_s() - before) / seconds, 2)
