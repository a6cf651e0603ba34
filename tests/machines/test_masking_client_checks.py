"""What a client refuses in a masking round: each check has what it guards against, and nothing is sent after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from secagg.errors import FaultyCoordinatorError, PolicyError, SecAggError
from secagg.ids import ClientId, JobId, RoundNumber
from secagg.messages.masking import MaskingJoin, MaskingRoster
from secagg.messages.signed import Authenticated
from secagg.plan import JobSpec, MaskingJob, RoundPlan
from secagg.policy import ClientPolicy
from secagg.roles.client import rules
from secagg.roles.client.events import Event, PlanOffered, RoundEnded
from secagg.roles.client.masking.events import (
    MaskingRosterFrozen,
    MaskUpdate,
    SharesShown,
)
from secagg.roles.client.state import ClientPhase, ClientState
from tests.machines.masking_client_states import roster_of, state_in
from tests.masking_material import (
    ALICE,
    BOB,
    CAROL,
    CLIENTS,
    OTHER,
    PLAN,
    POLICY,
    SPEC,
    STRANGER,
    authenticated,
    begun,
    finished,
)

_P = ClientPhase
FOUR = CLIENTS[:4]


def refuses(phase: ClientPhase, event: Event, words: str, error: type[SecAggError] = FaultyCoordinatorError) -> None:
    refused_in(state_in(phase), event, words, error)


def refused_in(state: ClientState, event: Event, words: str, error: type[SecAggError] = FaultyCoordinatorError) -> None:
    before = repr(state)
    with pytest.raises(error, match=words):
        rules.step(state, event)
    assert repr(state) == before


class TestPlan:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"spec": replace(SPEC, job=JobId("other"))}, "job other"),
            ({"round": RoundNumber(3)}, "round 3"),
        ],
    )
    def test_a_round_that_was_not_asked_for(self, changes: dict[str, Any], words: str) -> None:
        offered = PlanOffered(plan=replace(PLAN, **changes), bundle=None)
        refused_in(begun(after_round=3), offered, words)

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            (replace(SPEC, protocol=MaskingJob(corrupt_fraction=0.01, dropout_fraction=0.0)), "corrupt"),
            (replace(SPEC, min_contributors=3, protocol=MaskingJob(dropout_fraction=0.0)), "3"),
            (replace(SPEC, clip=2.0), "clip 2.0"),
        ],
    )
    def test_a_plan_weaker_than_the_policy(self, spec: JobSpec, words: str) -> None:
        policy = replace(POLICY, max_clip=1.0)
        plan = RoundPlan(spec=spec, round=PLAN.round, protocol=PLAN.protocol)
        refused_in(begun(policy=policy), PlanOffered(plan=plan, bundle=None), words, PolicyError)

    def test_a_protocol_that_the_policy_leaves_out(self) -> None:
        policy = ClientPolicy(protocols=frozenset({"ckks"}))
        refused_in(begun(policy=policy), PlanOffered(plan=PLAN, bundle=None), "masking", PolicyError)


def roster_with(client: ClientId, **changes: object) -> MaskingRoster:
    """Return the roster with something else in one client's join."""
    full = roster_of()
    joins = tuple(
        authenticated(replace(one.message, **changes)) if one.message.client == client else one for one in full.joins
    )
    return replace(full, joins=joins)


def key_of(client: ClientId) -> Authenticated[MaskingJoin]:
    return finished().state.joins[client]


class TestRoster:
    @pytest.mark.parametrize(
        ("roster", "words"),
        [
            (roster_of(plan_digest=OTHER), "another plan"),
            (roster_with(BOB, plan_digest=OTHER), "another plan"),
            (roster_of(CLIENTS[1:]), "does not hold the join of alice"),
            (roster_with(ALICE, mask_key=OTHER), "does not hold the join of alice"),
            (roster_with(ALICE, share_key=OTHER), "does not hold the join of alice"),
            (roster_with(ALICE, seed_commitment=OTHER), "does not hold the join of alice"),
            (roster_of(joins=roster_of().joins[::-1]), "order"),
            (roster_of(joins=(*roster_of().joins, roster_of().joins[-1])), "twice"),
            (roster_with(BOB, mask_key=key_of(ALICE).message.mask_key), "copied"),
            (roster_with(BOB, share_key=key_of(CAROL).message.share_key), "copied"),
            (roster_with(BOB, mask_key=key_of(CAROL).message.share_key), "copied"),
            (roster_with(BOB, share_key=key_of(BOB).message.mask_key), "copied"),
            (roster_with(BOB, mask_key=bytes(32)), "no secret"),
            (roster_with(BOB, share_key=b"\x01" + bytes(31)), "no secret"),
            (roster_with(BOB, share_key=(2**255 - 20).to_bytes(32, "little")), "no secret"),
            (roster_of(CLIENTS[:3], neighbours=2, threshold=2, quorum=3), "3 clients, between 4 and 7"),
        ],
    )
    def test_a_roster_that_is_none(self, roster: MaskingRoster, words: str) -> None:
        refuses(_P.KEYS_SHOWN, MaskingRosterFrozen(roster=roster), words)

    def test_a_roster_of_more_than_the_plan_allows(self) -> None:
        extra = authenticated(
            MaskingJoin(
                plan_digest=PLAN.digest,
                client=ClientId("zoe"),
                mask_key=b"\x09" + bytes(31),
                share_key=b"\x0a" + bytes(31),
                seed_commitment=OTHER,
            )
        )
        roster = roster_of(joins=(*roster_of().joins, extra), neighbours=7, threshold=5, quorum=6)
        refuses(_P.KEYS_SHOWN, MaskingRosterFrozen(roster=roster), "8 clients, between 4 and 7")

    @pytest.mark.parametrize(
        ("numbers", "words"),
        [
            ({"threshold": 3}, "threshold 3"),
            ({"threshold": 1}, "threshold 1"),
            ({"threshold": 0}, "threshold 0"),
            ({"threshold": 7}, "threshold 7"),
            ({"quorum": 4}, "quorum 4"),
            ({"quorum": 0}, "quorum 0"),
            ({"quorum": 8}, "quorum 8"),
            ({"neighbours": 5}, "even"),
            ({"neighbours": 4, "threshold": 2}, "betrays"),
            ({"neighbours": 2, "threshold": 1}, "betrays"),
            ({"neighbours": 0, "threshold": 0}, "0 neighbours"),
            ({"neighbours": 7}, "7 neighbours"),
        ],
    )
    def test_a_graph_that_is_too_weak(self, numbers: dict[str, Any], words: str) -> None:
        refuses(_P.KEYS_SHOWN, MaskingRosterFrozen(roster=roster_of(**numbers)), words)

    @pytest.mark.parametrize("numbers", [{"threshold": 5, "quorum": 6}, {"neighbours": 4}])
    def test_a_graph_that_is_strong_enough_passes(self, numbers: dict[str, Any]) -> None:
        """A ring of four neighbours and t = 4: one corrupt client is fewer than 2t - k, wherever it stands."""
        roster = roster_of(**numbers)
        assert rules.step(state_in(_P.KEYS_SHOWN), MaskingRosterFrozen(roster=roster)).state.phase is _P.SHARING

    def test_the_policy_may_ask_for_more_than_the_plan(self) -> None:
        strict = replace(POLICY, min_contributors=6)
        plan = replace(PLAN, spec=replace(SPEC, min_contributors=6))
        state = rules.step(begun(policy=strict), PlanOffered(plan=plan, bundle=None)).state
        assert state.phase is _P.PLANNED
        loose = replace(state_in(_P.KEYS_SHOWN), policy=strict)
        roster = roster_of(CLIENTS[:5], neighbours=4, threshold=4, quorum=5)
        refused_in(loose, MaskingRosterFrozen(roster=roster), "5 clients, between 6")

    def test_a_roster_too_short_for_the_corrupt_clients_that_the_policy_allows_for(self) -> None:
        """The plan's share of a short roster is fewer clients than the policy's own number."""
        state = replace(state_in(_P.KEYS_SHOWN), policy=replace(POLICY, corrupt_clients=2))
        words = "bears 1 corrupt clients, this client allows for 2"
        refused_in(state, MaskingRosterFrozen(roster=roster_of()), words, PolicyError)

    def test_the_end_of_the_round_is_an_end(self) -> None:
        assert rules.step(state_in(_P.KEYS_SHOWN), RoundEnded(reason="too few")).state.phase is _P.FAILED


def shares_of(*sharers: ClientId) -> SharesShown:
    return SharesShown(sharers=sharers, sealed=finished().state.sealed_to(ALICE))


class TestSharers:
    @pytest.mark.parametrize(
        ("sharers", "words"),
        [
            (CLIENTS[1:], "leaves out alice"),
            ((*CLIENTS, STRANGER), "mallory, who cannot be in it"),
            (CLIENTS[::-1], "order"),
            ((ALICE, ALICE, *CLIENTS[1:]), "twice"),
            (CLIENTS[:3], "names 3 clients, at least 4"),
            (FOUR, "3 neighbours of alice are among the sharers, at least 4"),
            ((), "leaves out"),
        ],
    )
    def test_sharers_that_are_none(self, sharers: tuple[ClientId, ...], words: str) -> None:
        refuses(_P.SHARING, shares_of(*sharers), words)

    def test_a_threshold_of_neighbours_passes(self) -> None:
        assert rules.step(state_in(_P.SHARING), shares_of(*CLIENTS[:5])).state.phase is _P.MASKING

    @pytest.mark.parametrize("bad", ["none", "short", "another's", "garbage"])
    def test_shares_that_do_not_open_take_no_mask_away(self, bad: str) -> None:
        """The vector is masked with that neighbour all the same; nothing is revealed of it."""
        sealed = dict(finished().state.sealed_to(ALICE))
        sealed[BOB] = {"none": b"", "short": b"x", "another's": sealed[CAROL], "garbage": bytes(88)}[bad]
        step = rules.step(state_in(_P.SHARING), SharesShown(sharers=CLIENTS, sealed=sealed))
        (effect,) = step.effects
        assert isinstance(effect, MaskUpdate)
        assert effect.unopened == (BOB,)
        whole = finished().sent[ALICE][MaskUpdate].masks
        assert (effect.masks.added, effect.masks.subtracted) == (whole.added, whole.subtracted)
        revealed = step.state.held.reveal(CLIENTS[1:], CLIENTS)  # type: ignore[union-attr]
        assert [bool(one) for one in revealed] == [False, True, True, True, True, True]

    def test_shares_of_strangers_are_not_looked_at(self) -> None:
        sealed = {**finished().state.sealed_to(ALICE), STRANGER: b"x"}
        step = rules.step(state_in(_P.SHARING), SharesShown(sharers=CLIENTS, sealed=sealed))
        assert step.state.unopened == ()  # type: ignore[union-attr]
