"""Child processes that never outlive the demo."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from secagg.errors import UnreachableError

STOP_SECONDS = 5.0
POLL_SECONDS = 0.05
LOG_TAIL = 400
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block is over: a process that starts or stops just then would be forgotten.

    Python's own handlers do not reach a new process, so that it is not deaf to its end. For the main thread.
    """
    pending: list[int] = []
    previous = {number: signal.signal(number, lambda found, _: pending.append(found)) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if pending:
        raise KeyboardInterrupt


def free_port() -> int:
    """Return a loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(kw_only=True)
class Child:
    """One process of the demo; its standard error goes to a log file in the demo's private directory."""

    name: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def output(self) -> IO[str]:
        """What it prints."""
        assert self.process.stdout is not None  # noqa: S101 - always piped
        return self.process.stdout

    def complaint(self) -> str:
        """Return the end of its log, for the person who has to find out."""
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")[-LOG_TAIL:].strip()
        return ""


@dataclass(kw_only=True)
class Household:
    """Starts the demo's processes in their own sessions (Ctrl-C reaches the demo alone) and stops them all at the end."""

    directory: Path
    children: dict[str, Child] = field(default_factory=dict)

    def start(self, name: str, arguments: list[str], *, environment: dict[str, str] | None = None) -> Child:
        """Start ``python -m ...`` under a name that is free, or whose process has ended."""
        log = self.directory / f"{name}.log"
        command = [sys.executable, "-m", *arguments]
        with log.open("a") as errors, uninterrupted():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **(environment or {})},
                start_new_session=True,
            )
            child = Child(name=name, process=process, log=log)
            self.children[name] = child
        return child

    def kill(self, name: str) -> None:
        """End a process at once, as a crash would."""
        child = self.children.pop(name)
        child.process.kill()
        child.process.wait(STOP_SECONDS)
        child.output.close()

    def check(self) -> None:
        """Raise :class:`UnreachableError` with its last words when a process has failed."""
        for child in self.children.values():
            if child.process.poll() not in (None, 0, -signal.SIGKILL):
                raise UnreachableError(child.name, f"the process {child.name} ended by itself: {child.complaint()}")

    def wait_for_port(self, name: str, port: int, *, limit_seconds: float = 30.0) -> None:
        """Wait until a child listens on a loopback port."""
        deadline = time.monotonic() + limit_seconds
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
            time.sleep(POLL_SECONDS)
        raise UnreachableError(
            name,
            f"{name} did not listen on port {port} within {limit_seconds:.0f} s: {self.children[name].complaint()}",
        )

    def stop(self) -> None:
        """Ask every process to end, and make those that do not."""
        for child in self.children.values():
            with contextlib.suppress(ProcessLookupError):
                child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children.values():
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait(STOP_SECONDS)
            child.output.close()
        self.children.clear()
