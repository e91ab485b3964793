"""`make sbom` names what the locks name."""

import json
import re
import subprocess
from pathlib import Path

from deploy.checks.render import ENVIRONMENT
from tests.processes import ROOT

WRITE = """
import json, sys
from pathlib import Path
from deploy.prove.dockerfile import read
from deploy.sbom import locks, write
found = locks(read(Path("deploy/Dockerfile")))
write("cli", found["cli"], Path(sys.argv[1]))
print(json.dumps({image: [lock.name for lock in of] for image, of in found.items()}))
"""


def test_an_image_is_described_by_the_locks_that_it_is_built_from(tmp_path: Path) -> None:
    command = [ENVIRONMENT / "python", "-c", WRITE, tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["releases"] == found["gateway"] == ["gateway.txt"]
    assert found["study-worker"] == ["compress.txt", "engine.txt", "worker.txt"]
    bill = json.loads((tmp_path / "cli.cdx.json").read_text())
    assert bill["metadata"]["component"]["name"] == "flywheel"
    locked = re.findall(r"^([\w.-]+)==([^ \\]+)", (ROOT / "locks/cli.txt").read_text(), re.MULTILINE)
    assert {(each["name"], each["version"]) for each in bill["components"]} == set(locked)
    assert all(reference["hashes"] for each in bill["components"] for reference in each["externalReferences"])
