"""`python3 deploy/make_secrets.py [--postgres]`: makes the secrets that docker-compose.yml reads, as files.

What exists is kept. The folder is its owner's alone; the files can be read by whatever user a container runs as, which
sees only those that its service names. Nothing but Python's standard library is needed.
"""

import argparse
import secrets
from pathlib import Path

FOLDER = Path(__file__).resolve().with_name("secrets")
SQLITE = "sqlite:////var/lib/flywheel/flywheel.db"


def make(folder: Path, *, postgres: bool) -> list[str]:
    """The names of those that were missing."""
    folder.mkdir(mode=0o700, exist_ok=True)
    password = _kept(folder / "POSTGRES_PASSWORD") or secrets.token_urlsafe(32)
    wanted = {
        "FLYWHEEL_AUTH__PEPPER": secrets.token_urlsafe(48),
        "POSTGRES_PASSWORD": password,
        "FLYWHEEL_DATABASE_URL": (
            f"postgresql+psycopg://flywheel:{password}@postgresql:5432/flywheel" if postgres else SQLITE
        ),
    }
    missing = [name for name in wanted if not (folder / name).exists()]
    for name in missing:
        (folder / name).write_text(wanted[name])
        (folder / name).chmod(0o444)
    return missing


def _kept(file: Path) -> str | None:
    return file.read_text() if file.exists() else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgres", action="store_true", help="for the profile `postgres`, instead of SQLite")
    made = make(FOLDER, postgres=parser.parse_args().postgres)
    print(f"{FOLDER}: made {', '.join(made)}" if made else f"{FOLDER}: all there, nothing changed")
