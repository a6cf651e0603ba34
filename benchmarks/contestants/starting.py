"""Starting programs, for every contestant: a process until it has imported something, printed its help, or answers at its port.

`case`: {}. The seconds are from the call that starts the process. "idle_bytes" is what it has in memory then.
Standard library only: peers' interpreters load it.
"""

import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from benchmarks.stage import Prepare

POLL_SECONDS, LIMIT_SECONDS = 0.002, 60.0
_SHOW = "; print(*(l.split()[1] for l in open('/proc/self/status') if l.startswith(('VmHWM:', 'VmRSS:'))), flush=True)"
"""Most memory so far, and memory now."""


def imports(statement: str) -> Prepare:
    """A new interpreter until the statement is done and the process has ended."""

    def run() -> dict[str, Any]:
        asked = [sys.executable, "-c", statement + _SHOW]
        start = time.perf_counter()
        said = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=LIMIT_SECONDS)
        seconds = time.perf_counter() - start
        peak, idle = (int(kilobytes) * 1024 for kilobytes in said.stdout.split()[-2:])
        return {"seconds": seconds, "peak_bytes": peak, "idle_bytes": idle}

    return lambda _: run


def prints(arguments: list[str]) -> Prepare:
    """A command until it has ended; its output has to name itself."""

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        said = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=LIMIT_SECONDS)
        seconds = time.perf_counter() - start
        assert "Usage" in said.stdout
        return {"seconds": seconds}

    return lambda _: run


def answers(arguments: list[str], port: int) -> dict[str, Any]:
    """A service until somebody can connect to it; then it is killed."""
    start = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while not _connects(port):
            if process.poll() is not None or time.perf_counter() - start > LIMIT_SECONDS:
                process.kill()
                raise RuntimeError(f"it does not answer: {process.communicate()[1][-400:]}")
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - start
        return {"seconds": seconds} | _memory_of(process.pid)
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    """A loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _connects(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _memory_of(process_id: int) -> dict[str, int]:
    with open(f"/proc/{process_id}/status", encoding="ascii") as file:  # noqa: PTH123 - as short as it can be
        kilobytes = dict(line.split()[:2] for line in file if line.startswith("Vm"))
    return {"peak_bytes": int(kilobytes["VmHWM:"]) * 1024, "idle_bytes": int(kilobytes["VmRSS:"]) * 1024}
