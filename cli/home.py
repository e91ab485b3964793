"""FLYWHEEL_HOME: where a local stack keeps everything but its environments."""

import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PEPPER = "FLYWHEEL_AUTH__PEPPER"


@dataclass(frozen=True, slots=True)
class Home:
    folder: Path

    @classmethod
    def find(cls) -> "Home":
        """The folder that FLYWHEEL_HOME names, or `.flywheel` in the repository."""
        return cls(Path(os.environ.get("FLYWHEEL_HOME") or REPOSITORY / ".flywheel").expanduser().resolve())

    @property
    def local_file(self) -> Path:
        """For scripts and commands: how to reach the stack that runs."""
        return self.folder / "local.json"

    @property
    def state_file(self) -> Path:
        """What the supervisor says of itself and its services."""
        return self.folder / "supervisor.json"

    @property
    def lock_file(self) -> Path:
        """Locked by the supervisor for as long as it lives."""
        return self.folder / "supervisor.lock"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def log(self, service: str) -> Path:
        return self.logs / f"{service}.log"

    def secrets(self) -> dict[str, str]:
        """The secrets of this stack as settings, made at the first call and kept for good."""
        file = self.folder / "secrets"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_private(file, f"{PEPPER}={secrets.token_urlsafe(48)}\n")
        return dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)

    def environment(self, *, elsewhere: Collection[str] = ()) -> dict[str, str]:
        """The settings of a stack that lives in this folder, but for its ports and what is said elsewhere."""
        own = {
            "FLYWHEEL_HOME": str(self.folder),
            "FLYWHEEL_DATABASE_URL": f"sqlite:///{self.folder}/flywheel.db",
            "FLYWHEEL_ARTIFACTS_URL": f"file://{self.folder}/artifacts",
        }
        secret = {} if PEPPER in elsewhere else self.secrets()
        return secret | {name: value for name, value in own.items() if name not in elsewhere}


def write_private(file: Path, text: str) -> None:
    """Replaces a file, readable by its owner only, so that nobody sees half of it."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    partial.replace(file)


def environment_python(service: str) -> Path:
    """The Python of a service's environment, which always lies in the repository."""
    return REPOSITORY / ".flywheel" / "envs" / service / "bin" / "python"
