"""A house that does well, dies, hangs or fails when it is asked to. New processes import this: standard library only."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

LIMIT_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Told:
    """`folder` is shared by all houses; the house whose name is `sick` does what it is asked, the others do well."""

    name: str
    folder: Path
    sick: bool = False
    fails_to_start: bool = False


class StrangeHouse:
    def __init__(self, told: Told) -> None:
        if told.fails_to_start:
            raise ValueError("no foundation")
        self._told = told

    def who(self) -> tuple[str, int]:
        return self._told.name, os.getpid()

    def setting(self, name: str) -> str | None:
        return os.environ.get(name)

    def meet(self, houses: int) -> bool:
        """True once all houses do this at the same time."""
        (self._told.folder / f"{self._told.name} is here").touch()
        end = time.monotonic() + LIMIT_SECONDS
        while len(list(self._told.folder.glob("* is here"))) < houses:
            if time.monotonic() > end:
                return False
            time.sleep(0.001)
        return True

    def die(self) -> None:
        if self._told.sick:
            os.kill(os.getpid(), signal.SIGKILL)
        self.hang()  # As clients do that wait for those of the dead house.

    def fail(self) -> None:
        if self._told.sick:
            raise ValueError("the roof leaks")
        self.hang()

    def lose_connection(self) -> None:
        if self._told.sick:
            raise ConnectionResetError("its own, not the pipe's")
        self.hang()

    def hang(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (self._told.folder / f"{self._told.name} hangs").touch()
        signal.sigwait([signal.SIGUSR1])  # Which nobody sends.

    def close(self) -> None:
        (self._told.folder / f"{self._told.name} closed").touch()
