"""`flywheel down`: stops the stack."""

import time

from cli.home import Home
from cli.supervisor.control import stop_supervisor
from cli.supervisor.state import SupervisorState


def down() -> None:
    """Stop everything that `up` started. Running requests come to their end first."""
    started_at, said = time.monotonic(), set[str]()

    def say(state: SupervisorState) -> None:
        for name, step in state.steps.items():
            if step.status == "stopped" and name not in said:
                said.add(name)
                print(f"  {name:<30} stopped", flush=True)

    if stop_supervisor(Home.find(), on_wait=say):
        print(f"Everything is stopped after {time.monotonic() - started_at:.1f} s.")
    else:
        print("Nothing runs.")
