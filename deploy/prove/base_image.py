"""A root that stands in for the image `python:3.11-slim-bookworm`: the same Debian, with Debian's own Python 3.11.

The image compiles its Python; Debian's is of the same minor version and has its headers too, which torch compiles with.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

IMAGE = re.compile(r"python:(?P<python>\d+\.\d+)-slim-(?P<release>[a-z]+)(@sha256:[0-9a-f]{64})?")
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org")
PROGRAMS = ("mmdebstrap", "bwrap", "setpriv")


class CannotBuild(RuntimeError):
    """What this machine lacks."""


@dataclass(frozen=True, slots=True)
class BaseImage:
    python: str
    release: str

    @classmethod
    def named(cls, image: str) -> "BaseImage":
        """Raises CannotBuild for any image but Python's slim ones."""
        if (parts := IMAGE.fullmatch(image)) is None:
            raise CannotBuild(f"nothing stands in for the image {image}")
        return cls(parts["python"], parts["release"])

    def make(self, root: Path) -> None:
        """Raises CannotBuild."""
        packages = f"python{self.python},libpython{self.python}-dev,python3-pip,ca-certificates"
        done = subprocess.run(
            ["mmdebstrap", "--variant=minbase", f"--include={packages}", self.release, root, *self._sources()],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            shutil.rmtree(root, ignore_errors=True)
            raise CannotBuild(f"mmdebstrap: {done.stderr.strip()[-2000:]}")
        for name in ("python", "python3"):
            (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/python{self.python}")
        # Debian keeps pip from changing its own packages; in the image Python is not Debian's.
        (root / f"usr/lib/python{self.python}/EXTERNALLY-MANAGED").unlink(missing_ok=True)

    def _sources(self) -> list[str]:
        return [
            f"deb {MIRROR}/debian {self.release} main",
            f"deb {MIRROR}/debian {self.release}-updates main",
            f"deb {MIRROR}/debian-security {self.release}-security main",
        ]


def check_machine() -> None:
    """Raises CannotBuild."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise CannotBuild(f"{', '.join(missing)} missing; `apt-get install mmdebstrap bubblewrap util-linux`")
    if os.geteuid() != 0:
        raise CannotBuild("only root can make the roots of images; run it by sudo, or in a virtual machine")
