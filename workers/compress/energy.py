"""Energy that a piece of work took, as far as this machine tells."""

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

POLL_S = 0.2


class EnergyMeter(Protocol):
    """`with meter:` around the work; then `joules`. `method` says how it is known."""

    method: str

    @property
    def joules(self) -> float: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None: ...


class ProcessorTime:
    """Seconds of a processor times the watts that a busy one takes, by a setting: an estimate that compares variants,
    not a measurement. It knows nothing of memory, disks and what an idle machine takes."""

    def __init__(self, cpu_s: Callable[[], float], *, watts_per_core: float) -> None:
        self._cpu_s, self._watts = cpu_s, watts_per_core
        self._before = self._after = 0.0
        self.method = f"processor seconds of the engine's processes × {watts_per_core:g} W a core (a setting)"

    @property
    def joules(self) -> float:
        return (self._after - self._before) * self._watts

    def __enter__(self) -> Self:
        self._before = self._cpu_s()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._after = self._cpu_s()


class NvidiaPower:
    """What `nvidia-smi` says of the watts of all GPUs, looked at a few times a second and added up."""

    method = "power of the GPUs by nvidia-smi, added up over time"

    def __init__(self, program: str = "nvidia-smi") -> None:
        self._command = [program, "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
        self._ended = threading.Event()
        self.joules = 0.0

    def __enter__(self) -> Self:
        self.joules = 0.0
        self._ended.clear()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        looked_at = time.monotonic()
        while True:
            watts = self._watts()
            now = time.monotonic()
            self.joules += watts * (now - looked_at)
            looked_at = now
            if self._ended.wait(POLL_S):
                return

    def _watts(self) -> float:
        said = subprocess.run(self._command, capture_output=True, text=True, check=False).stdout
        return sum(float(line) for line in said.split() if line.replace(".", "", 1).isdigit())


def find_meter(cpu_s: Callable[[], float], *, watts_per_core: float) -> EnergyMeter:
    if shutil.which("nvidia-smi") is not None:
        return NvidiaPower()
    return ProcessorTime(cpu_s, watts_per_core=watts_per_core)
