"""A database that stores a move and loses its answer, in the middle of what a ``ckks`` round asks key holders for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from secagg.ids import HolderId, RoundNumber
from secagg.messages.round import HolderVerdict, Phase
from tests.simulation.round_material import CLIENTS, HOLDERS
from tests.simulation.virtual_time import simulate
from tests.unit.coordinator.durable_engine import Failing
from tests.unit.coordinator.test_durable_uploads import Served


class LosesOneAnswer:
    """Lets the answer to one move be lost, though it is stored: the first one whose record is as the test says."""

    def __init__(self, served: Served, meant: Callable[[Any], bool]) -> None:
        self._meant = meant
        self.lost = 0
        served.store = cast("Any", Failing(served.store))
        cast("Failing", served.store).fails = self._fails

    def _fails(self, name: str, args: tuple[Any, ...]) -> str:
        if name != "advance_round" or self.lost or args[0].record is None or not self._meant(args[0].record):
            return ""
        self.lost += 1
        return "after"


async def whole_round(served: Served) -> None:
    """Have every client do its part, and wait for the end."""
    await served.start()
    await served.join()
    await served.sealed()
    for client in CLIENTS:
        await served.send(client)
        await served.complete(client)
    await served.state(Phase.PUBLISHED, Phase.ABORTED)
    await served.engine.stop(0.0)


def played(served: Served) -> Any:
    """Play a whole round; return what the store says of it."""
    defects: list[str] = []
    simulate(0, lambda: whole_round(served), defects)
    assert not defects
    record = served.store.round(served_job(served), RoundNumber(1))
    served.store.close()
    return record


def served_job(served: Served) -> Any:
    (job,) = served.store.jobs("", 10)
    return job.spec.job


def test_a_key_that_is_stored_is_not_destroyed_for_a_lost_answer_of_the_database(tmp_path: Path) -> None:
    """The coordinator tells nobody that a ceremony came to nothing before it knows whether its key is the round's."""
    served = Served(tmp_path)
    losing = LosesOneAnswer(served, lambda record: record.key is not None)
    record = played(served)
    assert losing.lost
    assert record.status.phase is Phase.PUBLISHED, record.status.reason
    assert {one.verdict for one in record.status.holders} == {HolderVerdict.OK}


def test_an_answer_that_is_stored_stays_when_the_database_loses_its_answer(tmp_path: Path) -> None:
    """The holder that gave it, the last one, is gone then: what it gave lies on disk, and counts."""
    served = Served(tmp_path)
    answered: list[HolderId] = []

    def is_the_last(record: Any) -> bool:
        answered.extend(one.holder for one in record.holders if one.statement and one.holder not in answered)
        if len(answered) == len(HOLDERS):
            served.calls[answered[-1]]._node.crash()
        return len(answered) == len(HOLDERS)

    losing = LosesOneAnswer(served, is_the_last)
    record = played(served)
    assert losing.lost
    assert record.status.phase is Phase.PUBLISHED, record.status.reason
    assert {one.verdict for one in record.status.holders} == {HolderVerdict.OK}
