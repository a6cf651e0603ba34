"""Houses: processes of their own, started once, which all do the same order at the same time and answer it.

Python runs one thread at a time: clients that share a process share one core, whatever the machine has. Standard library only.
"""

import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

END_SECONDS = 10.0
"""From the order to end, or a signal, to the next stronger one."""
CLOSE = "close"

Build = Callable[[Any], Any]
"""In the new process: from what a house is told to an object. Orders are calls of its methods, `close` is the last one."""


class HouseError(Exception):
    """A house failed, ended by itself, or did not answer in time."""


class _House(NamedTuple):
    process: Any
    """A process of the "spawn" context."""
    pipe: Connection


class Houses:
    """Processes that stand until `close`, or until one of them fails, which ends all.

    Args:
        build: a function of a module, which the new processes import.
        told: what to build from, one for each house; has to be picklable.
        env: on top of this process's environment; libraries read theirs when they are imported.
    """

    def __init__(self, build: Build, told: Sequence[Any], env: dict[str, str]) -> None:
        before = dict(os.environ)
        os.environ |= env  # Processes inherit it when they start.
        try:
            self._houses = [_start(place, build, one) for place, one in enumerate(told)]
        finally:
            os.environ.clear()
            os.environ |= before

    @property
    def pids(self) -> list[int]:
        """Of those that stand."""
        return [house.process.pid for house in self._houses]

    def started(self, limit_seconds: float) -> None:
        """Wait until all are built. Raises `HouseError`."""
        self._answers("start", limit_seconds)

    def ask(self, order: str, *arguments: Any, limit_seconds: float) -> list[Any]:
        """Let all houses call the same method at once; return what each returned. Raises `HouseError`."""
        if not self._houses:
            raise HouseError(f"asked to {order} after the houses ended")
        for house in self._houses:
            with suppress(ConnectionError):  # It ended: waiting for its answer tells how.
                house.pipe.send((order, arguments))
        return self._answers(order, limit_seconds)

    def _answers(self, order: str, limit_seconds: float) -> list[Any]:
        """One from each, in the order of the houses."""
        end, found = time.monotonic() + limit_seconds, dict[int, Any]()
        try:
            while missing := [place for place in range(len(self._houses)) if place not in found]:
                self._wait(missing, end, f"did not {order} within {limit_seconds:g} s")
                found |= {place: one for place in missing for one in self._said(place, order)}
        except HouseError:
            self._kill()  # The others would wait for the clients of this one.
            raise
        return [found[place] for place in sorted(found)]

    def _wait(self, places: Sequence[int], end: float, reproach: str) -> None:
        """Return when one of the houses says something, or has ended."""
        houses = [self._houses[place] for place in places]
        signs = [sign for house in houses for sign in (house.pipe, house.process.sentinel)]
        if not wait(signs, max(end - time.monotonic(), 0)):
            raise HouseError(f"house {places[0]} {reproach}")

    def _said(self, place: int, order: str) -> list[Any]:
        """Nothing yet, or an answer."""
        house = self._houses[place]
        if not house.pipe.poll() and house.process.is_alive():
            return []
        try:
            went_well, answer = house.pipe.recv()
        except (EOFError, ConnectionError):
            house.process.join(END_SECONDS)
            code = house.process.exitcode
            raise HouseError(f"house {place} ended when asked to {order}, with exit code {code}") from None
        if not went_well:
            raise HouseError(f"house {place}, asked to {order}: {answer}")
        return [answer]

    def peak_bytes(self) -> list[int]:
        """The most that each house ever had in memory."""
        return [_peak_bytes(pid) for pid in self.pids]

    def close(self) -> None:
        """Let every house end by itself; end those that do not."""
        for house in self._houses:
            with suppress(ConnectionError):
                house.pipe.send((CLOSE, ()))
        end = time.monotonic() + END_SECONDS
        for house in self._houses:
            house.process.join(max(end - time.monotonic(), 0))
        self._kill()

    def _kill(self) -> None:
        for house in self._houses:
            house.process.kill()
        for house in self._houses:
            house.process.join()
            house.process.close()
            house.pipe.close()
        self._houses = []


def _start(place: int, build: Build, told: Any) -> _House:
    # Spawned, not forked: gRPC's threads and locks do not survive a fork.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    # A daemon: it is ended when this process exits.
    process = context.Process(target=_live, args=(there, build, told), name=f"house {place}", daemon=True)
    process.start()
    there.close()
    return _House(process, here)


def _peak_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _live(pipe: Connection, build: Build, told: Any) -> None:
    """Build, then obey until told to close, or until nobody asks any more."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    order = ""
    went_well, house = _done(build, told)
    with suppress(EOFError, ConnectionError):
        pipe.send((went_well, None if went_well else house))
        while went_well and order != CLOSE:
            order, arguments = pipe.recv()
            went_well, answer = _done(getattr(house, order), *arguments)
            pipe.send((went_well, answer))


def _end_with_parent() -> None:
    """Even in the middle of an order: who is killed cannot end its houses."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _done(work: Callable[..., Any], *arguments: Any) -> tuple[bool, Any]:
    """True and what came out, or False and why nothing did."""
    try:
        return True, work(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever a house raises is its answer
        traceback.print_exc()
        return False, f"{type(error).__name__}: {error}"
