"""What makes two gateways, two engines and three workers of a local stack, with a balancer before the gateways."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.debian import program
from tests.processes import ROOT, Process, free_port

BALANCER = Path(__file__).parent / "balancer.nginx"
START_S = 600.0


@dataclass(frozen=True, slots=True)
class SecondOfEach:
    base_url: str
    """The balancer's, before both gateways."""
    gateway: Process
    gateway_url: str
    engine: Process
    engine_port: int
    workers: tuple[Process, ...]


@contextmanager
def second_of_each(settings: Mapping[str, str], model: str, folder: Path) -> Iterator[SecondOfEach]:
    """Beside the stack whose processes have these settings."""
    with ExitStack() as resources:
        gateway_port, engine_port, port = free_port(), free_port(), free_port()
        url = f"http://127.0.0.1:{gateway_port}"

        def start(name: str, service: str, *arguments: str, **more: str) -> Process:
            command = [str(ROOT / f".flywheel/envs/{service}/bin/python"), "-m", *arguments]
            process = Process(command, log=folder / f"{name}.log", environment={**settings, **more})
            resources.callback(process.stop)
            return process

        workers = tuple(start(f"worker-{number}", "worker", "workers") for number in (2, 3))
        gateway = start("gateway-2", "gateway", "gateway", FLYWHEEL_GATEWAY__PORT=str(gateway_port))
        engine = start("engine-2", "engine", "inference.agent", model, FLYWHEEL_ENGINE__PORT=str(engine_port))
        gateway.wait_until(lambda: engines_known(url, model) == 2, timeout_s=START_S)
        for worker in workers:
            worker.wait_until(lambda worker=worker: " ready." in worker.log.read_text(), timeout_s=START_S)
        balancer = _balancer(folder, port, first=settings["FLYWHEEL_GATEWAY__PORT"], second=gateway_port)
        resources.callback(balancer.stop)
        balancer.wait_until(lambda: _answers(f"http://127.0.0.1:{port}/health/ready"))
        yield SecondOfEach(f"http://127.0.0.1:{port}/v1", gateway, url, engine, engine_port, workers)


def engines_known(url: str, model: str) -> int:
    """0 where the gateway does not answer."""
    try:
        metrics = httpx.get(f"{url}/metrics", timeout=5).text
    except httpx.TransportError:
        return 0
    lines = (line for line in metrics.splitlines() if line.startswith(f'flywheel_engines{{model="{model}"}}'))
    return sum(int(float(line.split()[-1])) for line in lines)


def _balancer(folder: Path, port: int, *, first: str, second: int) -> Process:
    (folder / "temp").mkdir()
    text = BALANCER.read_text().replace("@FOLDER@", str(folder)).replace("@PORT@", str(port))
    (folder / "nginx.conf").write_text(text.replace("@FIRST@", first).replace("@SECOND@", str(second)))
    return Process([*program("nginx"), "-c", str(folder / "nginx.conf")], log=folder / "nginx.log")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
