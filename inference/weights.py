"""Makes sure of a model's weights on this machine: found, fetched or converted once, and checked by digest."""

import argparse
import fcntl
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import structlog

from contracts.settings import Settings
from inference.catalogue import Catalogue, CatalogueError, CatalogueModel, FolderSource, HubSource, PackageSource
from store.artifacts import folder_digest
from telemetry.logs import configure_logs

HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]

log = structlog.get_logger(__name__)


class WeightsError(Exception):
    """The weights cannot be had; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Weights:
    folder: Path
    digest: str


def ensure_weights(model: CatalogueModel, weights_dir: Path) -> Weights:
    """The model's weights as a folder in Hugging Face's layout. Slow the first time, a check of digests afterwards.

    Safe to call from several processes at once. Raises WeightsError.
    """
    match model.source:
        case PackageSource(format="folder") as source:
            return _packaged_folder(source)
        case PackageSource() as source:
            return _converted(model.name, source, weights_dir.expanduser())
        case FolderSource(path=path):
            return _local_folder(path.expanduser().resolve())
        case HubSource() as source:
            return _from_hub(source)


def _packaged_folder(source: PackageSource) -> Weights:
    folder = _find_in_package(source)
    _check(source, folder_digest(folder))
    return Weights(folder, source.digest)


def _local_folder(folder: Path) -> Weights:
    if not (folder / "config.json").is_file():
        raise WeightsError(f"{folder} is no model folder: it has no config.json.")
    return Weights(folder, folder_digest(folder))


def _from_hub(source: HubSource) -> Weights:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        folder = Path(snapshot_download(source.id, revision=source.revision, allow_patterns=HUB_FILES))
    except (RepositoryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise WeightsError(
            f"{source.id} could not be fetched from the Hugging Face hub ({type(error).__name__}). Check its name, "
            "HF_TOKEN for a gated model, and that the hub can be reached from here."
        ) from None
    return Weights(folder, f"git:{folder.name}")  # a snapshot's folder is named by its commit


def _converted(name: str, source: PackageSource, weights_dir: Path) -> Weights:
    folder = weights_dir / name.replace("/", "--")
    record = folder.with_name(f"{folder.name}.json")
    weights_dir.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{folder.name}.lock")):
        if (digest := _intact(folder, record, source)) is not None:
            return Weights(folder, digest)
        gguf = _find_in_package(source)
        with gguf.open("rb") as content:
            _check(source, f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}")
        digest = _convert(gguf, folder)
        record.write_text(json.dumps({"source": source.digest, "folder": digest}))
        return Weights(folder, digest)


def _intact(folder: Path, record: Path, source: PackageSource) -> str | None:
    """The digest of an earlier conversion of the same source, if not a byte of it has changed since."""
    if not folder.is_dir() or not record.is_file():
        return None
    known = json.loads(record.read_text())
    digest: str = known["folder"]
    if known["source"] == source.digest and folder_digest(folder) == digest:
        return digest
    log.warning("the kept weights are damaged or of another version; converting again", folder=folder.name)
    return None


def _convert(gguf: Path, folder: Path) -> str:
    """In a process of its own, which gives its memory back. The folder appears whole or not at all."""
    for left in folder.parent.glob(f".{folder.name}.partial-*"):
        shutil.rmtree(left, ignore_errors=True)
    # A name of its own: the conversion of an agent that was killed may still write to its folder.
    partial = Path(mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
    log.info("converting weights", source=gguf.name, folder=folder.name)
    run = subprocess.run(
        [sys.executable, "-m", "inference.convert", str(gguf), str(partial)],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if run.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        reason = (run.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise WeightsError(f"{gguf.name} could not be converted: {reason}")
    partial.chmod(0o755)  # mkdtemp keeps it to its owner
    digest = folder_digest(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return digest


def _find_in_package(source: PackageSource) -> Path:
    spec = importlib.util.find_spec(source.package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"The package {source.package} is not installed in this environment ({sys.prefix}).")
    found = Path(spec.submodule_search_locations[0]) / source.path
    if not found.exists():
        raise WeightsError(f"The package {source.package} has no {source.path}.")
    return found


def _check(source: PackageSource, digest: str) -> None:
    if digest != source.digest:
        raise WeightsError(
            f"{source.path} of the package {source.package} is not what the catalogue expects: {digest} instead of "
            f"{source.digest}. Install the package again."
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    """`python -m inference.weights MODEL` prints the folder and the digest of a model's weights."""
    parser = argparse.ArgumentParser(prog="python -m inference.weights", description=main.__doc__)
    parser.add_argument("model", help="a name of the catalogue")
    name = parser.parse_args().model
    settings = Settings()
    configure_logs("flywheel-engine", settings.telemetry.log_level)
    try:
        model = Catalogue.load(settings.engine.catalogue).require(name)
        weights = ensure_weights(model, settings.engine.weights_dir)
    except (CatalogueError, WeightsError) as error:
        sys.exit(str(error))
    print(weights.folder, weights.digest)


if __name__ == "__main__":
    main()
