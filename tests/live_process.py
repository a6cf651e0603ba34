"""One service as a process of its own, for tests: started, waited for, measured, killed, frozen, and always ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
READY_SECONDS = 40.0
END_SECONDS = 20.0
POLL_SECONDS = 0.05


class ReservedPort:
    """A loopback port that the system gives to nobody else while this stands; a service may listen on it all the same."""

    def __init__(self) -> None:
        self._holder = socket.socket()
        # Bound and never listening: whoever else sets this option, as gRPC does, may listen there.
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.number: int = self._holder.getsockname()[1]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.number}"

    def release(self) -> None:
        self._holder.close()


@dataclass(kw_only=True)
class LiveProcess:
    """``python -m`` with arguments; its standard error is a JSON log, appended to over restarts.

    ``environment`` is added to ours at the next start.
    """

    name: str
    arguments: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    frozen: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    read_from: int = field(default=0, init=False)

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        assert not self.running, f"{self.name} runs already"
        self.read_from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **self.environment},
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Wait for the line that a service logs once it serves."""
        self.wait_for_event(lambda line: str(line.get("event", "")).endswith(" ready"), seconds=READY_SECONDS)

    def wait_for_event(
        self, matches: Callable[[dict[str, Any]], bool], *, seconds: float = END_SECONDS
    ) -> dict[str, Any]:
        """Return the first matching line since the last start; fail with the log when the process ends or time is over."""
        assert self.process is not None
        end = time.monotonic() + seconds
        while True:
            ended = not self.running
            found = next((line for line in self.lines() if matches(line)), None)
            if found is not None:
                return found
            assert not ended, f"{self.name} ended by itself:\n{self.text()}"
            assert time.monotonic() < end, f"{self.name} did not log it within {seconds:g} s:\n{self.text()}"
            self._pass_time()

    def _pass_time(self) -> None:
        assert self.process is not None
        try:
            self.process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            return

    def text(self, *, whole: bool = False) -> str:
        """Return the log since the last start, or the whole of it."""
        data = self.log.read_bytes() if self.log.exists() else b""
        return data[0 if whole else self.read_from :].decode(errors="replace")

    def lines(self, *, whole: bool = False) -> list[dict[str, Any]]:
        """Return the complete log lines since the last start, or all of them."""
        complete = self.text(whole=whole).rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in complete if line.startswith("{")]

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._send(signal.SIGKILL)
        self._reap()

    def terminate(self, *, seconds: float = END_SECONDS) -> int:
        """Ask it to end; return its exit code, or fail when it takes longer."""
        self._send(signal.SIGTERM)
        assert self.process is not None
        code = self.process.wait(seconds)
        self.frozen = False
        return code

    def freeze(self) -> None:
        """Let it neither answer nor end, as a machine that hangs."""
        self._send(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        self._send(signal.SIGCONT)
        self.frozen = False

    def ask_to_end(self) -> None:
        """Ask it to end, in any state; `end` waits for it."""
        if self.running:
            self._send(signal.SIGTERM)
            self.thaw()

    def end(self) -> None:
        """End it in any state: politely, so that coverage is written, and then not."""
        if not self.running:
            return
        self.ask_to_end()
        assert self.process is not None
        try:
            self.process.wait(END_SECONDS / 2)
        except subprocess.TimeoutExpired:
            self.kill()

    def peak_rss_bytes(self) -> int:
        """Return the most memory it has ever held, as Linux counts it."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])

    def _send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def _reap(self) -> None:
        assert self.process is not None
        self.process.wait(END_SECONDS)
        self.frozen = False
