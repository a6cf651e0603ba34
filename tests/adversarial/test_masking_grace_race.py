"""A client cannot end a round by confirming at the very moment at which the coordinator stops waiting for it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from coordinator.contracts import RoundMove
from secagg.messages.round import Phase
from secagg.roles.client.masking.events import SurvivorsShown, VectorAccepted
from secagg.roles.coordinator.events import Event, GraceOver
from secagg.roles.coordinator.masking import unmasking
from tests.masking_material import CLIENTS, NONCE
from tests.round_cluster import eventually
from tests.unit.coordinator.test_masking_chores import Driven

LIMIT_SECONDS = 20.0


async def test_the_last_confirmation_may_come_as_the_grace_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.rounds.live.secrets.token_bytes", lambda size: NONCE[:size])
    monkeypatch.setattr(unmasking, "GRACE_SECONDS", 0.2)
    driven = Driven(tmp_path)
    live, store = driven.live, driven.store
    round = await driven.confirming()
    graced, entering = threading.Event(), threading.Event()
    advance, report = store.advance_round, live.report

    def advanced(move: RoundMove, *lease: Any) -> None:
        if move.record is not None and move.record.status.phase is Phase.UNMASKING:
            entering.set()
            assert graced.wait(LIMIT_SECONDS)
        advance(move, *lease)

    def reported(event: Event, *arguments: Any) -> None:
        report(event, *arguments)
        if isinstance(event, GraceOver):
            graced.set()

    monkeypatch.setattr(store, "advance_round", advanced)
    monkeypatch.setattr(live, "report", reported)
    for client in CLIENTS:
        round.tell(client, VectorAccepted())
        round.tell(client, SurvivorsShown(survivors=live.state.contributors))
        await live.apply(round.confirmation(client))
    assert entering.is_set()
    await eventually(lambda: not live._moves)
    assert live.state.phase is Phase.UNMASKING, live.state.reason
    await live.give_up("the test is over")
    await driven.closed()
    store.close()
