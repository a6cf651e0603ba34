"""What holds at the end of every simulated masking round, whatever happened; see `test_masking_rounds` for the list."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coordinator.contracts import mean_name
from he.packing import unpack_mean
from secagg.client.progress import mean_from_bytes
from secagg.errors import FaultyClientError, FaultyCoordinatorError, PolicyError
from secagg.ids import ClientId, Digest
from secagg.masking.masks import MaskedSum, masked_pieces, piece_bytes, pieces
from secagg.masking.packing import pack
from secagg.masking.planner import corrupt_count
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, Shares, Unmasking
from secagg.messages.round import Phase, Result
from secagg.roles.client.state import ClientPhase
from tests.simulation.masking.client_nodes import ClientNode
from tests.simulation.masking.desk import HonestDesk
from tests.simulation.masking.exposure import exposure
from tests.simulation.masking.fates import CORRUPT, STEADY, Fate
from tests.simulation.masking.live_desk import LiveDesk
from tests.simulation.masking.parties import read, update_of, vector_of
from tests.simulation.masking.rounds import SLACK_SECONDS, WholeRound

_WELL_MADE = (Fate.COLLUDES, Fate.SEALS_GARBAGE, Fate.SHARES_WITH_FEW, Fate.CONFIRMS_ANOTHER, Fate.REVEALS_WRONG)
"""Corrupt clients whose vector is what an honest client would have sent."""
_FORGETS_AFTER = (ClientPhase.REVEALED, ClientPhase.AWAITING_SUM, ClientPhase.DONE, ClientPhase.FAILED)


_NAMES_NOBODY = ("joined in time: nobody", "the total weight", "the sum is implausible", "the coordinator was stopped")
"""Reasons of rounds that ended although nobody was missing, or with nobody there."""


def check(done: WholeRound) -> None:
    """Raise `AssertionError` for what may never come of a round."""
    assert not done.defects, done.defects
    check_secrecy(done)
    for node in done.nodes.values():
        check_node(done, node)
    if isinstance(done.desk, LiveDesk):
        check_kept(done, done.desk)
    elif done.truthful:
        check_end(done)


def check_secrecy(done: WholeRound) -> None:
    """Nobody's two secrets are known, a roster's clients reveal for one set at most, and no sum opens but that of such a set."""
    exposed = exposure(done.nodes)
    assert not exposed.seeds & exposed.keys, f"both secrets of {sorted(exposed.seeds & exposed.keys)} are known"
    revealed = {
        (unmasking.roster_digest, survivors)
        for node in done.nodes.values()
        if not node.corrupt
        for unmasking, survivors in node.unmaskings
    }
    assert len({roster for roster, _ in revealed}) == len(revealed), "shares were revealed for two sets of one roster"
    least = done.scenario.spec.min_contributors
    assert all(len(survivors) >= least for _, survivors in revealed)
    whole = {honest_part(done, roster, survivors) for roster, survivors in revealed}
    for opened in exposed.sums:
        assert opened in whole, f"the sum of {sorted(opened)} opens by itself"
        assert len(opened) >= least - corrupt_count(len(done.nodes), done.scenario.spec.masking.corrupt_fraction)


def honest_part(done: WholeRound, roster: Digest, survivors: tuple[ClientId, ...]) -> frozenset[ClientId]:
    """Return the honest survivors that took part in this roster; who is in two of them takes part in one."""
    nodes = [done.nodes[one] for one in survivors if not done.nodes[one].corrupt]
    return frozenset(node.client for node in nodes if node.sharing is not None and node.sharing.roster_digest == roster)


def check_node(done: WholeRound, node: ClientNode) -> None:
    """Every honest client has one face, a result or an error, and no secrets left once it revealed."""
    if node.corrupt:
        return
    if node.fate is not Fate.FORGETS:
        for kind in (MaskingJoin, Shares, MaskedUpload, Confirmation, Unmasking):
            assert len(node.said.get(kind, ())) <= 1, f"{node.client} sent two of {kind.__name__}"
    if node.fate in STEADY:
        assert (node.result is None) != (node.error is None), node.client
    if node.result is not None:
        assert node.confirming is not None
        assert node.result.contributors == node.confirming.survivors
        assert node.client in node.result.contributors
    for state in node.states:
        if state.phase in _FORGETS_AFTER:
            assert not {"secrets", "held", "house"} & set(vars(state)), "shares outlived their use"
    if done.truthful:
        assert not isinstance(node.error, (FaultyClientError, FaultyCoordinatorError, PolicyError)), node.error


def check_end(done: WholeRound) -> None:
    """A truthful coordinator's round ends with the exact sum of the confirmed survivors, or with who was missing."""
    desk = done.desk
    assert isinstance(desk, HonestDesk)
    state = desk.state
    assert not (desk.faulty | set(state.refused)) - {one for one in done.nodes if done.nodes[one].corrupt}
    if state.phase is Phase.ABORTED:
        assert state.result is None
        assert desk.signed_result is None
        named = any(client in state.reason for client in done.scenario.clients)
        assert named or any(words in state.reason for words in _NAMES_NOBODY), state.reason
        assert not any(node.result for node in done.nodes.values())
        return
    assert state.phase is Phase.PUBLISHED
    assert state.result is not None
    assert state.result.contributors == state.survivors == state.contributors
    assert len(state.survivors) >= max(done.scenario.spec.min_contributors, state.quorum)
    assert len(state.confirmations) >= state.quorum
    assert np.array_equal(desk.quantised, exact_sum(done, state.survivors)), "the sum is not exact"
    check_mean(done, state.survivors, state.result.total_weight)
    for node in done.nodes.values():
        if node.result is not None:
            assert node.result == state.result
            assert node.mean == desk.mean


def check_kept(done: WholeRound, desk: LiveDesk) -> None:
    """A round whose coordinator died ends as any other: with the exact mean of its survivors, or a reason; and leaves nothing."""
    outcome, blobs = desk.outcome, desk.blobs
    assert done.ended_at_seconds <= done.scenario.spec.longest_seconds + SLACK_SECONDS + done.longest_delay_seconds
    assert not set(outcome.refused) - {one for one in done.nodes if done.nodes[one].corrupt}
    assert blobs.names("uploads") == []
    assert desk.store.closed
    assert desk.store.kept == []
    if outcome.phase is Phase.ABORTED:
        assert outcome.reason
        assert "the coordinator failed" not in outcome.reason, outcome.reason
        assert blobs.names("means") == []
        assert not any(node.result for node in done.nodes.values())
        return
    assert outcome.phase is Phase.PUBLISHED
    assert outcome.result is not None
    result = read(outcome.result, Result).message
    assert blobs.names("means") == [mean_name(desk.plan.spec.job, desk.plan.round, result.mean_digest)]
    assert desk.acknowledged.get("uploads", set()) <= set(result.contributors), "a contribution was taken and forgotten"
    assert len(result.contributors) >= done.scenario.spec.min_contributors
    assert desk.mean == exact_mean(done, result.contributors), "the sum is not exact"
    check_mean(done, result.contributors, result.total_weight)
    assert all(node.result in (None, result) for node in done.nodes.values())
    assert all(node.mean == desk.mean for node in done.nodes.values() if node.result is not None)


def exact_mean(done: WholeRound, survivors: tuple[ClientId, ...]) -> bytes:
    """Return what the coordinator must have written: the mean of the exact sum, tensor by tensor."""
    spec = done.scenario.spec
    total = MaskedSum(spec.masking_parameters)
    total.add(0, spec.masking_parameters.values, pack(exact_sum(done, survivors), spec.masking_parameters.sum_bits))
    mean, _ = unpack_mean(total.values(len(survivors)), spec.layout, spec.clip, spec.max_weight)
    return b"".join(mean[one.name].astype(mean[one.name].dtype.newbyteorder("<")).tobytes() for one in spec.tensors)


def exact_sum(done: WholeRound, survivors: tuple[ClientId, ...]) -> npt.NDArray[np.uint32]:
    """Add up what each survivor's vector is without its own masks, client by client: uint32 (values,), modulo 2^b."""
    spec = done.scenario.spec
    parameters = spec.masking_parameters
    total = np.zeros(parameters.values, dtype=np.uint32)
    for client in survivors:
        node = done.nodes[client]
        one = MaskedSum(parameters)
        for start, stop in pieces(parameters):
            begin, size = piece_bytes(start, stop, parameters)
            assert node.vector is not None
            assert node.masks is not None
            one.add(start, stop, node.vector[begin : begin + size])
            one.take_off(start, stop, node.masks)
        if node.fate not in CORRUPT:
            assert np.array_equal(one.quantised(), quantised(node)), f"{client} sent another vector than its own"
        total += one.quantised()
    return total & np.uint32((1 << parameters.sum_bits) - 1)


def quantised(node: ClientNode) -> npt.NDArray[np.uint32]:
    """Return a client's update as whole numbers, which no mask has ever been near: uint32 (values,)."""
    spec = node.spec
    vector = vector_of(node.client, spec)
    bare = MaskedSum(spec.masking_parameters)
    packed = masked_pieces(vector, spec.masking_parameters, type(node.masks)(), node.noise_key)  # type: ignore[misc]
    for (start, stop), piece in zip(pieces(spec.masking_parameters), packed, strict=True):
        bare.add(start, stop, piece)
    return bare.quantised()


def check_mean(done: WholeRound, survivors: tuple[ClientId, ...], total_weight: float) -> None:
    """Compare the mean with that of the survivors' own updates, within the error that the plan promises."""
    fates = {done.nodes[one].fate for one in survivors}
    if fates & (CORRUPT - set(_WELL_MADE)):
        return
    spec = done.scenario.spec
    mean = mean_from_bytes(spec, done.desk.mean)
    updates = [update_of(one, spec) for one in survivors]
    weight = sum(one for _, one in updates)
    tolerance = spec.masking_parameters.mean_error(weight / spec.max_weight) + 1e-6
    assert abs(total_weight - weight) < tolerance * len(survivors)
    for tensor in spec.tensors:
        expected = sum(one * arrays[tensor.name].astype(np.float64) for arrays, one in updates) / weight
        assert np.abs(mean[tensor.name] - expected).max() < tolerance, tensor.name
