"""`python -m inference.guard GROUP`: kills a process group as soon as standard input ends, so when whoever holds its
other end is gone.

The kernel could signal vLLM itself when the agent dies (PR_SET_PDEATHSIG), but not the processes that vLLM started;
and a vLLM that is asked to stop waits without end for a client that still reads from it.
"""

import os
import signal
import sys
from contextlib import suppress


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends when its agent does, not before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    with suppress(ProcessLookupError):
        os.killpg(int(sys.argv[1]), signal.SIGKILL)


if __name__ == "__main__":
    main()
