"""What holds at the end of every simulated round, whatever happened; see `test_whole_rounds` for the list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from coordinator.contracts import mean_name
from secagg.client.progress import mean_from_bytes
from secagg.errors import FaultyClientError
from secagg.ids import ClientId, Digest, KeyId
from secagg.messages.ceremony import KeyStatement, SeedOpening, Verdict
from secagg.messages.round import HolderVerdict, Phase, Result
from tests.simulation.client_nodes import ClientFate, ClientNode
from tests.simulation.coordinator_node import ROUND
from tests.simulation.round_material import LONGEST_ROUND_SECONDS, SPEC, expected_mean, read, update_of
from tests.simulation.whole_rounds import WholeRound

COUNTED = (ClientFate.HONEST, ClientFate.LATE, ClientFate.VANISHES_AFTER_UPLOAD, ClientFate.UPLOADS_TWICE)
"""Clients whose upload is what they committed to."""
_DEVIATIONS = 10.0


def check(done: WholeRound) -> None:
    """Raise `AssertionError` for what may never come of a round."""
    assert not done.defects, done.defects
    check_end(done)
    check_clients(done)
    check_one_roster(done)
    check_answers(done)
    check_words(done)
    check_blame(done)
    assert done.shares_left == []


def check_end(done: WholeRound) -> None:
    """Return from every round with the sum of exactly its contributors, or with a reason."""
    coordinator, outcome = done.coordinator, done.coordinator.outcome
    assert done.ended_at_seconds <= LONGEST_ROUND_SECONDS + done.longest_delay_seconds
    assert not coordinator.blobs.names("uploads")
    assert coordinator.store.closed
    assert coordinator.store.kept == []
    if outcome.phase is Phase.ABORTED:
        assert outcome.reason
        assert "the coordinator failed" not in outcome.reason, outcome.reason
        assert outcome.result is None
        assert coordinator.blobs.names("means") == []
        return
    assert outcome.phase is Phase.PUBLISHED
    assert outcome.result is not None
    result = read(outcome.result, Result).message
    assert result.contributors == outcome.contributors
    name = mean_name(SPEC.job, ROUND, result.mean_digest)
    assert coordinator.blobs.names("means") == [name]
    check_mean(done, result.contributors, mean_from_bytes(SPEC, coordinator.blobs.blobs[name]), result.total_weight)
    assert coordinator.acknowledged.get("uploads", set()) <= set(result.contributors), (
        "a contribution was taken and forgotten"
    )


def check_mean(
    done: WholeRound, contributors: tuple[ClientId, ...], mean: Mapping[str, npt.NDArray[Any]], total_weight: float
) -> None:
    """Compare a mean with that of the contributors' own updates, within the error that the plan promises."""
    assert len(contributors) >= SPEC.min_contributors
    assert {done.scenario.clients[client] for client in contributors} <= set(COUNTED)
    plan = done.coordinator.plan
    assert plan is not None
    weight = sum(update_of(client).weight for client in contributors)
    tolerance = _DEVIATIONS * plan.parameters.mean_error(len(contributors), weight / SPEC.max_weight) + 1e-6
    assert abs(total_weight - weight) < tolerance * weight
    for name, expected in expected_mean(contributors).items():
        assert np.abs(mean[name] - expected).max() < tolerance, name


def check_clients(done: WholeRound) -> None:
    """Every client that keeps to the protocol has the right mean, or an error."""
    for node in done.clients.values():
        if not node.honest:
            continue
        assert (node.result is None) != (node.error is None), node.client
        if node.result is not None:
            assert node.client in node.result.contributors
            assert node.sent is not None
            check_mean(done, node.result.contributors, node.mean, node.result.total_weight)
        if node.sent is not None:
            check_sent(done, node)
        if done.truthful:
            assert not isinstance(node.error, FaultyClientError), node.error


def check_one_roster(done: WholeRound) -> None:
    """Whatever was shown to whom, honest clients uploaded to one roster: an opening shows nobody another commitment."""
    rosters = {node.sent.roster_digest for node in done.clients.values() if node.honest and node.sent is not None}
    assert len(rosters) <= 1


def check_sent(done: WholeRound, node: ClientNode) -> None:
    """A ciphertext leaves its client only under the key that the holders made, and among enough others."""
    key = done.coordinator.key
    assert key is not None
    assert {one.message.public_key_digest for one in key.statements} == {node.public_key_digest}
    assert node.client in node.roster
    assert len(set(node.roster)) == len(node.roster) >= SPEC.min_contributors


def check_answers(done: WholeRound) -> None:
    """One request at most is answered for a key, by whatever honest holders, and never one of too few contributors."""
    by_key: dict[KeyId, set[Digest]] = {}
    for (key, _), digests in done.witness.answered.items():
        by_key.setdefault(key, set()).update(digests)
    for digests in by_key.values():
        assert len(digests) == 1, "two requests were answered for one key"
        for digest in digests:
            assert len(set(done.witness.contributors[digest])) >= SPEC.min_contributors


def check_words(done: WholeRound) -> None:
    """No honest holder says two things in one step, or opens the seed of a key that it vouched for or that is used."""
    honest = {node.holder for node in done.holders.values() if node.honest}
    said = {key: words for key, words in done.witness.said.items() if key[0] in honest and key[1] is not Verdict}
    for (holder, kind, _), words in said.items():
        assert len(words) == 1, f"{holder} said two different things as its {kind.__name__}"
    opened = {(holder, ceremony) for holder, kind, ceremony in said if kind is SeedOpening}
    assert not opened & {(holder, ceremony) for holder, kind, ceremony in said if kind is KeyStatement}
    key = done.coordinator.key
    if key is not None:
        assert not {ceremony for _, ceremony in opened} & {key.plan.digest}


def check_blame(done: WholeRound) -> None:
    """Nobody honest is called faulty: by no honest holder, and by no coordinator that keeps to the protocol."""
    honest = {str(node.holder) for node in done.holders.values() if node.honest}
    honest |= {str(node.client) for node in done.clients.values() if node.fate in COUNTED[:3]}
    assert not done.witness.accused & honest
    if done.truthful:
        outcome = done.coordinator.outcome
        faulty = {str(name) for name, status in outcome.holders.items() if status.verdict is HolderVerdict.FAULTY}
        assert not faulty & honest, {name: outcome.holders[name].reason for name in outcome.holders if name in faulty}
        assert not {str(client) for client in outcome.refused} & honest
