"""Chooses versions and writes them, with hashes, to locks/: `python3.11 -m cli.lock [--keep] [SERVICE…]`.

The newest that fit, or with `--keep` those that are locked already, where they still fit. The locks name no package
registry: each machine takes the packages from where its own settings say.
"""

import argparse
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence

from cli.bootstrap import CPU_TORCH_SERVICES, REPOSITORY, Bootstrap, BootstrapError, PackageSources, uv_settings

PROJECT = "pyproject.toml"
SELECTIONS = {
    "cli": [PROJECT, "--extra", "cli"],
    "gateway": [PROJECT, "--extra", "gateway"],
    "engine": [PROJECT, "--extra", "engine"],
    "engine-cuda": [PROJECT, "--extra", "engine-cuda"],
    "engine-on-vllm": [PROJECT, "--extra", "engine-cuda"],
    "worker": [PROJECT, "--extra", "worker"],
    "worker-cuda": [PROJECT, "--extra", "worker"],  # the torch of the package index is the one for CUDA
    "compress": ["--group", f"{PROJECT}:compress"],
    "dev": [PROJECT, "--extra", "gateway", "--extra", "cli", "--group", "dev"],
    "loadtest": [PROJECT, "--group", "loadtest"],
    "dashboards": ["--group", f"{PROJECT}:dashboards"],
    "deploy": ["--group", f"{PROJECT}:deploy"],
    "policies": ["--group", f"{PROJECT}:policies"],
    "peers": ["--group", f"{PROJECT}:peers"],  # nothing of ours: LiteLLM pins much that we use
}
PLATFORM = ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"]
ON_VLLM = "engine-on-vllm"
"""What the engine needs beside what vLLM's own image has, for the Python that it has. What every service needs is in it
in versions that vLLM takes: those of the image may be older than ours."""
PLATFORM_ON_VLLM = ["--python-version", "3.12", *PLATFORM[2:]]
FORM = ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", "--no-header", "--no-annotate", "--quiet"]


def lock(service: str, bootstrap: Bootstrap, *, keep: bool) -> None:
    """Writes locks/<service>.txt. Raises CalledProcessError when no versions fit together."""
    sources = bootstrap.package_sources()
    if service.endswith("-cuda") or service == ON_VLLM:
        sources = PackageSources(sources.index_url)  # a folder of wheels may hold a torch for CPUs, which would win
    platform = PLATFORM_ON_VLLM if service == ON_VLLM else PLATFORM
    command = [str(bootstrap.uv), "pip", "compile", *SELECTIONS[service], *platform, *FORM]
    if service == ON_VLLM:
        there = _packages("-", bootstrap, sources, told=_pinned_vllm()) - _packages(PROJECT, bootstrap, sources)
        there = {name for name in there if not name.startswith("opentelemetry")}  # all of one version
        command += [word for name in sorted(there) for word in ("--no-emit-package", name)]
    if not keep:
        command.append("--upgrade")
    if service in CPU_TORCH_SERVICES and not sources.offer_torch():
        command += ["--torch-backend", "cpu"]
    command += ["--output-file", f"locks/{service}.txt"]
    subprocess.run(command, cwd=REPOSITORY, env=uv_settings(sources), check=True, stdout=subprocess.DEVNULL)


def _pinned_vllm() -> str:
    extras = tomllib.loads((REPOSITORY / PROJECT).read_text())["project"]["optional-dependencies"]
    (pinned,) = (each for each in extras["engine-cuda"] if each.startswith("vllm=="))
    return str(pinned)


def _packages(file: str, bootstrap: Bootstrap, sources: PackageSources, *, told: str = "") -> set[str]:
    """Names of all that the requirements of a file bring along, or those `told` if it is `-`."""
    command = [str(bootstrap.uv), "pip", "compile", file, *PLATFORM_ON_VLLM, "--no-annotate", "--no-header", "--quiet"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=uv_settings(sources), input=told, check=True, capture_output=True, text=True
    )
    return {line.partition("==")[0].partition("[")[0] for line in done.stdout.splitlines() if "==" in line}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python3.11 -m cli.lock")
    parser.add_argument("--keep", action="store_true", help="keep the versions that are locked, where they still fit")
    parser.add_argument("service", nargs="*", help=f"all, or some of: {', '.join(SELECTIONS)}")
    told = parser.parse_args(arguments)
    if unknown := set(told.service) - set(SELECTIONS):
        parser.error(f"no such lock: {', '.join(sorted(unknown))}")
    bootstrap = Bootstrap()
    try:
        bootstrap.make_tools()
        for service in told.service or SELECTIONS:
            started_at = time.monotonic()
            lock(service, bootstrap, keep=told.keep)
            print(f"  locks/{service}.txt written in {time.monotonic() - started_at:.1f} s", flush=True)
    except BootstrapError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
