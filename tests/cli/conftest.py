import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes import ROOT, python

Flywheel = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def flywheel(tmp_path: Path) -> Flywheel:
    """Runs `flywheel …` as a person would, in a home of its own: `flywheel("keys", "list", FLYWHEEL_…="…")`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLYWHEEL_")}

    def run(*arguments: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            python("-m", "cli", *arguments),
            cwd=ROOT,
            env=inherited | {"FLYWHEEL_HOME": str(tmp_path)} | environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
