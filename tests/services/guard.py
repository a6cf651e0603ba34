"""Runs a server for its starter and ends it with the starter, even when that one is killed: no orphan, nothing left in /tmp.

As a script (standard library alone): ``guard.py UID GID SIGNAL DIRECTORY COMMAND...`` runs the command as that user until
its own standard input ends, then ends it by the signal and removes the directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

END_SECONDS = 10.0
_POLL_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1


@dataclass(kw_only=True)
class GuardedServer:
    """A command that runs until :meth:`stop`, or until this process is no more.

    Attributes:
        command: program and arguments.
        directory: what the server keeps; removed at the end.
        log: where its output goes.
        uid: the user that it runs as; None for ours.
        gid: likewise.
        end_signal: what ends it in an orderly way.
    """

    command: Sequence[str]
    directory: Path
    log: Path
    uid: int | None = None
    gid: int | None = None
    end_signal: signal.Signals = signal.SIGTERM
    _guard: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    def start(self) -> None:
        user = [str(os.getuid() if self.uid is None else self.uid), str(os.getgid() if self.gid is None else self.gid)]
        arguments = [*user, str(int(self.end_signal)), str(self.directory), *self.command]
        with self.log.open("ab") as log:
            self._guard = subprocess.Popen(
                # Without site-packages, it starts at once; without its variables, coverage follows neither of the two.
                [sys.executable, "-I", "-S", __file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
                # Ctrl-C is for the tests; the guard sees their end.
                start_new_session=True,
            )

    def stop(self) -> None:
        """End the server, and wait for it."""
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        try:
            self._guard.wait(2 * END_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        self._guard = None


def _die_with_the_guard() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(uid: int, gid: int, end_signal: int, directory: str, command: list[str]) -> None:
    as_user = {"user": uid, "group": gid, "extra_groups": []} if os.getuid() == 0 else {}
    server = subprocess.Popen(  # type: ignore[call-overload]
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=_die_with_the_guard,  # noqa: PLW1509 - the guard has one thread
        cwd=directory,
        **as_user,
    )
    while server.poll() is None and not select.select([sys.stdin], [], [], _POLL_SECONDS)[0]:
        pass
    if server.poll() is None:
        server.send_signal(end_signal)
    try:
        server.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    with contextlib.suppress(OSError):
        shutil.rmtree(directory)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _run(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
