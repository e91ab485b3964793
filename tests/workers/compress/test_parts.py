"""The parts that measure: processes, energy, reasons in logs."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers.compress.energy import NvidiaPower, ProcessorTime
from workers.compress.engine import reason_in
from workers.compress.footprint import footprint_of
from workers.compress.program import last_words

HOG = "import time; block = b'1' * (64 << 20); end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def test_a_trees_memory_and_time_count_its_children():
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOG + 'time.sleep(30)'!r}])"
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        try:
            deadline = time.monotonic() + 20
            while footprint_of(parent.pid).cpu_s < 0.3:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert footprint_of(parent.pid).peak_bytes > 64 << 20
        finally:
            subprocess.run(["pkill", "-P", str(parent.pid)], check=False)
            parent.kill()


def test_processor_time_is_taken_times_the_watts():
    seconds = iter([10.0, 12.5])
    with ProcessorTime(lambda: next(seconds), watts_per_core=4) as meter:
        pass
    assert meter.joules == 10
    assert "4 W" in meter.method


def test_the_power_of_gpus_is_added_up(tmp_path: Path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 100.00\necho 50.50\n")
    program.chmod(0o755)
    began_at = time.monotonic()
    with NvidiaPower(str(program)) as meter:
        time.sleep(0.5)
    lasted_s = time.monotonic() - began_at
    assert 0.2 * 150.5 < meter.joules <= lasted_s * 150.5


LOG = """(APIServer pid=3) WARNING 11-26 23:09:18 [system_utils.py:255] It can cause errors like `OSError: Too many`.
(Worker pid=7) ERROR 11-26 23:10:42 [multiproc_executor.py:953] AttributeError: 'NoneType' object has no attribute 'x'
(EngineCore pid=4) ERROR 11-26 [core.py:1] Exception: WorkerProc initialization failed due to an exception
RuntimeError: Engine core initialization failed. See root cause above.
"""


@pytest.mark.parametrize(
    ("log", "reason"),
    [(LOG, "AttributeError: 'NoneType' object has no attribute 'x'"), ("", "vLLM ended without a word.")],
)
def test_the_first_error_of_an_engines_log_is_its_reason(tmp_path: Path, log: str, reason: str):
    (tmp_path / "log").write_text(log)
    assert reason_in(tmp_path / "log") == reason


def test_a_programs_last_words_are_its_last_line(tmp_path: Path):
    (tmp_path / "log").write_text("Traceback\n  File x\nValueError: too small\n\n")
    assert last_words(tmp_path / "log") == "ValueError: too small"
