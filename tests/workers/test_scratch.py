import subprocess
from pathlib import Path

from tests.processes import ROOT, python
from workers.scratch import remove_ownerless, scratch_folder

HOLD = """
import sys, time
from pathlib import Path
from workers.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "weights").write_text("w")
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_empty_and_gone_after_the_block(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").write_text("x")
        assert remove_ownerless(tmp_path) == 0
        assert (folder / "file").exists()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(python("-c", HOLD, str(tmp_path)), cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
        (tmp_path / "flywheel-job-of-an-older-kind").mkdir()
        processes[0].kill()
        processes[0].wait()
        assert remove_ownerless(tmp_path) == 1
        assert len(list(tmp_path.glob("*/work/weights"))) == 1
    finally:
        for process in processes:
            process.kill()
            process.communicate()
