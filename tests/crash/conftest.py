"""One deployment for all crash tests of a process: its key holders live on, and each test has a store of its own."""

from collections.abc import AsyncIterator, Iterator

import pytest

from secagg import coordinators
from tests.crash.crash_house import CrashHouse


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashHouse]:
    made = CrashHouse(tmp_path_factory.mktemp("crash"))
    try:
        made.start()
        yield made
    finally:
        made.live.close()


@pytest.fixture
async def house(standing: CrashHouse, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CrashHouse]:
    # Clients come back at once: their patience is tested elsewhere.
    monkeypatch.setattr(coordinators, "LONGEST_PAUSE_SECONDS", 0.5)
    standing.heal()
    standing.live.new_log_text()
    try:
        yield standing
    finally:
        await standing.live.hang_up()
        print(standing.live.new_log_text())
