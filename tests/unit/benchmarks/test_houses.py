"""Houses of clients are processes that work at the same time; one that dies, hangs or fails ends all of them, within its limit."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.bench_round import QUICK
from benchmarks.contestants.client_house import Played
from benchmarks.contestants.houses import HouseError, Houses
from benchmarks.contestants.sumveil_round import Deployed, phases
from secagg.messages.round import Phase
from tests.unit.benchmarks.strange_houses import LIMIT_SECONDS, StrangeHouse, Told

NAMES = ("one", "two")
SHORT_SECONDS = 0.5


ASKS_TO_HANG = f"""
import sys
from pathlib import Path
from benchmarks.contestants.houses import Houses
from tests.unit.benchmarks.strange_houses import StrangeHouse, Told

houses = Houses(StrangeHouse, [Told(name="one", folder=Path(sys.argv[1]))], {{}})
houses.started({LIMIT_SECONDS})
print(*houses.pids, flush=True)
houses.ask("hang", limit_seconds=10 * {LIMIT_SECONDS})
"""


@contextmanager
def houses(*told: Told, env: dict[str, str] | None = None) -> Iterator[Houses]:
    standing = Houses(StrangeHouse, told, env or {})
    try:
        yield standing
    finally:
        standing.close()


@contextmanager
def two_started(folder: Path, env: dict[str, str] | None = None) -> Iterator[Houses]:
    """The second one is the one that dies or fails when asked."""
    with houses(*(Told(name=name, folder=folder, sick=name == NAMES[1]) for name in NAMES), env=env) as standing:
        standing.started(LIMIT_SECONDS)
        yield standing


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Ended, though nobody may have asked how: a zombie has no memory left."""
    try:
        return "VmRSS" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_every_house_is_a_process_and_all_obey_at_the_same_time(tmp_path: Path) -> None:
    with two_started(tmp_path) as standing:
        found = standing.ask("who", limit_seconds=LIMIT_SECONDS)
        assert [name for name, _ in found] == [*NAMES]
        assert [pid for _, pid in found] == standing.pids
        assert len({os.getpid(), *standing.pids}) == 3
        assert standing.ask("meet", 2, limit_seconds=2 * LIMIT_SECONDS) == [True, True]
        assert all(peak > 1 << 20 for peak in standing.peak_bytes())


def test_settings_reach_the_houses_and_nobody_else(tmp_path: Path) -> None:
    with two_started(tmp_path, env={"OF_HOUSES": "1"}) as standing:
        assert standing.ask("setting", "OF_HOUSES", limit_seconds=LIMIT_SECONDS) == ["1", "1"]
    assert "OF_HOUSES" not in os.environ


def test_closed_houses_have_closed_by_themselves(tmp_path: Path) -> None:
    with two_started(tmp_path) as standing:
        pids = standing.pids
    assert {path.name for path in tmp_path.iterdir()} == {"one closed", "two closed"}
    assert all(map(gone, pids))


@pytest.mark.parametrize(
    ("order", "limit_seconds", "reason"),
    [
        ("die", LIMIT_SECONDS, "house 1 ended when asked to die, with exit code -9"),
        ("fail", LIMIT_SECONDS, "house 1, asked to fail: ValueError: the roof leaks"),
        (
            "lose_connection",
            LIMIT_SECONDS,
            "house 1, asked to lose_connection: ConnectionResetError: its own, not the pipe's",
        ),
        ("hang", SHORT_SECONDS, "house 0 did not hang within 0.5 s"),
    ],
)
def test_who_dies_fails_or_hangs_is_named_and_ends_all(
    tmp_path: Path, order: str, limit_seconds: float, reason: str
) -> None:
    with two_started(tmp_path) as standing:
        pids, began = standing.pids, time.monotonic()
        with pytest.raises(HouseError) as raised:
            standing.ask(order, limit_seconds=limit_seconds)
        assert time.monotonic() - began < LIMIT_SECONDS / 2  # Though the other one would have waited for ever.
        assert str(raised.value) == reason
        assert all(map(gone, pids))
        with pytest.raises(HouseError, match="asked to who after the houses ended"):
            standing.ask("who", limit_seconds=LIMIT_SECONDS)


def test_a_house_in_the_middle_of_an_order_ends_with_who_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ASKS_TO_HANG, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as asks:
        assert asks.stdout is not None
        pid = int(asks.stdout.readline())
        hangs = tmp_path / "one hangs"
        wait_until(hangs.exists)
        asks.kill()
        wait_until(lambda: gone(pid))


def test_a_house_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    with (
        houses(Told(name="one", folder=tmp_path, fails_to_start=True)) as standing,
        pytest.raises(HouseError, match="house 0, asked to start: ValueError: no foundation"),
    ):
        standing.started(LIMIT_SECONDS)


def test_a_phase_begins_with_the_first_client_of_any_house() -> None:
    one, two = (
        Played(ended=ended, reached=reached, sent=0, received=0, cpu_seconds=0.0)
        for ended, reached in (
            (16.0, {Phase.OPEN: 10.5, Phase.UPLOADING: 13.0, Phase.PUBLISHED: 15.0}),
            (17.0, {Phase.OPEN: 10.25, Phase.UPLOADING: 12.0, Phase.PUBLISHED: 15.5}),
        )
    )
    assert phases([one, two], began=10.0, ended=17.0) == {"open": 2.0, "uploading": 3.0, "published": 2.0}


def test_clients_of_two_houses_play_a_round_and_it_ends_when_a_house_dies() -> None:
    deployed = Deployed(dict(QUICK), houses=2)
    try:
        told = deployed.play()
        assert told["client_processes"] == 2
        assert sum(told["phases"].values()) == pytest.approx(told["seconds"])
        # All five send their masked vector, of at least three bytes a value.
        assert told["bytes"] > 3 * QUICK["values"]
        os.kill(deployed.houses.pids[0], 9)
        with pytest.raises(HouseError, match="house 0 ended when asked to play, with exit code -9"):
            deployed.play()
    finally:
        deployed.close()
    assert not any(service.running for service in deployed.live.services.values())
