"""The legal moves of a client in a masking round (docs/protocol.md, section 10).

A handler that raises leaves the state as it was; after `FaultyCoordinatorError` the driver sends nothing more. Every message
follows from what came before and from the master seed, so a client that starts again with what it kept sends the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from secagg import labels, transcript
from secagg.digests import Canonical
from secagg.errors import MessageError
from secagg.ids import ClientId
from secagg.masking.agreement import Agreements, derive_key, pair_mask_key, private_key, self_mask_key
from secagg.masking.held_shares import HeldShares
from secagg.masking.masks import Masks, adds
from secagg.masking.sealing import decode_pair, encode_pair, open_sealed, seal
from secagg.masking.secrets_of_client import ClientSecrets
from secagg.masking.shamir import deal
from secagg.masking.stream import MaskStream
from secagg.messages.masking import Confirmation, MaskedUpload, MaskingJoin, Shares, Unmasking
from secagg.plan import RoundPlan
from secagg.roles.client.checks import mean_bytes, verify_mean, verify_result
from secagg.roles.client.events import AwaitResult, DeliverResult, Effect, ResultPublished
from secagg.roles.client.masking.checks import (
    verify_confirmations,
    verify_contributors,
    verify_masking_roster,
    verify_sharers,
    verify_survivors,
)
from secagg.roles.client.masking.events import (
    AwaitSurvivors,
    ConfirmationsShown,
    DrawSecrets,
    MaskingRosterFrozen,
    MaskUpdate,
    SecretsDrawn,
    SendConfirmation,
    SendMaskingJoin,
    SendShares,
    SendUnmasking,
    SendVector,
    SharesShown,
    SurvivorsShown,
    TurnMissed,
    UnmaskingAccepted,
    VectorAccepted,
    VectorMasked,
)
from secagg.roles.client.masking.state import (
    AwaitingSum,
    Confirming,
    KeysShown,
    Masking,
    Planned,
    Revealed,
    Sharing,
    VectorCounted,
    VectorSent,
)
from secagg.roles.client.state import ClientPhase, ClientState, Done, Offered
from secagg.roles.machine import Step
from secagg.roles.neighbourhood import Neighbourhood

ClientStep = Step[ClientState, Effect]


def planned(state: Offered, plan: RoundPlan) -> ClientStep:
    """10.1: the plan passed job and policy; draw the secrets of this round."""
    return Step(state=Planned(**vars(state), plan=plan), effects=(DrawSecrets(plan=plan),))


def secrets_drawn(state: Planned, event: SecretsDrawn) -> ClientStep:
    """10.1: show keys for this round alone, and commit to the self-mask seed."""
    secrets = ClientSecrets.of(event.master_seed, plan_digest=state.plan.digest, client=state.client)
    join = MaskingJoin(
        plan_digest=state.plan.digest,
        client=state.client,
        mask_key=secrets.mask_public,
        share_key=secrets.share_public,
        seed_commitment=secrets.commitment,
    )
    shown = KeysShown(**vars(state), secrets=secrets, join=join)
    return Step(state=shown, effects=(SendMaskingJoin(join=join),))


def roster_frozen(state: KeysShown, event: MaskingRosterFrozen) -> ClientStep:
    """10.2 and 10.3: check the roster, derive the graph from its digest, seal the shares to each neighbour."""
    roster = event.roster
    verify_masking_roster(state.plan, state.policy, state.join, roster)
    digest = transcript.masking_roster_digest(roster)
    house = Neighbourhood.of(
        digest, roster.clients, degree=roster.neighbours, threshold=roster.threshold, quorum=roster.quorum
    )
    share_key = Agreements(state.secrets.share_private)
    sharing = Sharing(**vars(state), roster=roster, roster_digest=digest, house=house, share_key=share_key)
    shares = Shares(plan_digest=state.plan.digest, roster_digest=digest, client=state.client, sealed=_sealed(sharing))
    return Step(state=sharing, effects=(SendShares(shares=shares, roster=house.clients),))


def _sealed(state: Sharing) -> tuple[bytes, ...]:
    """Share both secrets, and seal each neighbour's pair to it; its point is its position plus one."""
    secrets, house = state.secrets, state.house
    places = house.graph[house.places[state.client]]
    seeds, keys = deal(
        [secrets.self_seed, secrets.mask_private],
        threshold=house.threshold,
        points=(places + 1).astype(np.uint32),
        stream=MaskStream(_dealing_key(state)),
    )
    joins = state.roster.joins
    return tuple(
        seal(
            state.share_key,
            joins[place].message.share_key,
            encode_pair(seed, key),
            plan_digest=state.plan.digest,
            roster_digest=state.roster_digest,
            sender=state.client,
            receiver=house.clients[place],
        )
        for place, seed, key in zip(places.tolist(), seeds, keys, strict=True)
    )


def _dealing_key(state: Sharing) -> bytes:
    """One roster, one dealing: shares of two rosters could not be put together, whatever a driver does wrong."""
    return derive_key(state.secrets.dealing_key, Canonical(labels.SHARE_DEALING).data(state.roster_digest))


def shares_shown(state: Sharing, event: SharesShown) -> ClientStep:
    """10.3 and 10.4: open the neighbours' shares, and know which masks the vector gets.

    A neighbour whose shares do not open is masked with all the same: the others hold its shares, and a mask is never left out.
    """
    house, sharers = state.house, event.sharers
    verify_sharers(state.plan, state.policy, house, state.client, sharers)
    partners = frozenset(sharers) & frozenset(house.neighbours_of(state.client))
    pairs = {one: _opened(state, one, event.sealed) for one in sorted(partners)}
    opened = {one: pair for one, pair in pairs.items() if pair is not None}
    unopened = tuple(sorted(partners - frozenset(opened)))
    masking = Masking(
        **vars(state),
        sharers=sharers,
        sharers_digest=transcript.sharers_digest(state.roster_digest, sharers),
        held=HeldShares(opened),
        unopened=unopened,
    )
    effect = MaskUpdate(
        plan=state.plan,
        masks=_masks(state, partners),
        noise_key=state.secrets.quantising_key,
        unopened=unopened,
    )
    return Step(state=masking, effects=(effect,))


def _opened(state: Sharing, sender: ClientId, sealed: Mapping[ClientId, bytes]) -> bytes | None:
    try:
        pair = open_sealed(
            state.share_key,
            state.roster.joins[state.house.places[sender]].message.share_key,
            sealed.get(sender, b""),
            plan_digest=state.plan.digest,
            roster_digest=state.roster_digest,
            sender=sender,
            receiver=state.client,
        )
        decode_pair(pair)
    except MessageError:
        return None
    return pair


def _masks(state: Sharing, partners: frozenset[ClientId]) -> Masks:
    secrets, house = state.secrets, state.house
    own, mask_key = house.places[state.client], private_key(secrets.mask_private)
    context = {"plan_digest": state.plan.digest, "roster_digest": state.roster_digest}
    added = [self_mask_key(secrets.self_seed, **context, client=state.client)]
    subtracted: list[bytes] = []
    for other in sorted(partners):
        place = house.places[other]
        public = state.roster.joins[place].message.mask_key
        key = pair_mask_key(mask_key, public, **context, one=state.client, other=other)
        (added if adds(own, place) else subtracted).append(key)
    return Masks(added=tuple(added), subtracted=tuple(subtracted))


def vector_masked(state: Masking, event: VectorMasked) -> ClientStep:
    """10.4: sign what is kept, for exactly these sharers."""
    upload = MaskedUpload(
        plan_digest=state.plan.digest,
        roster_digest=state.roster_digest,
        client=state.client,
        sharers_digest=state.sharers_digest,
        vector_digest=event.vector_digest,
        vector_bytes=event.vector_bytes,
    )
    return Step(state=VectorSent(**vars(state), upload=upload), effects=(SendVector(upload=upload),))


def vector_accepted(state: VectorSent, _event: VectorAccepted) -> ClientStep:
    """The vector counts; wait for who else survived."""
    counted = VectorCounted(**vars(state))
    return Step(state=counted, effects=(AwaitSurvivors(roster=state.house.clients),))


def survivors_shown(state: VectorCounted, event: SurvivorsShown) -> ClientStep:
    """10.5: sign one set of survivors, the only one of this round."""
    verify_survivors(state.plan, state.policy, state.client, state.sharers, event.survivors)
    confirmation = Confirmation(
        plan_digest=state.plan.digest,
        roster_digest=state.roster_digest,
        client=state.client,
        survivors_digest=transcript.survivors_digest(state.sharers_digest, event.survivors),
    )
    confirming = Confirming(**vars(state), survivors=event.survivors, confirmation=confirmation)
    return Step(state=confirming, effects=(SendConfirmation(confirmation=confirmation),))


def confirmations_shown(state: Confirming, event: ConfirmationsShown) -> ClientStep:
    """10.6: once a quorum signed the very same set, reveal one share for each neighbour; the shares are gone from here after it."""
    verify_confirmations(state.confirmation, state.house, state.survivors, event.confirmations)
    unmasking = Unmasking(
        plan_digest=state.plan.digest,
        roster_digest=state.roster_digest,
        client=state.client,
        survivors_digest=state.confirmation.survivors_digest,
        shares=state.held.reveal(state.house.neighbours_of(state.client), frozenset(state.survivors)),
    )
    return Step(state=_revealed(state, Revealed), effects=(SendUnmasking(unmasking=unmasking),))


def _revealed(state: Confirming, kind: type[Revealed]) -> Revealed:
    return kind(
        client=state.client,
        coordinator=state.coordinator,
        policy=state.policy,
        job=state.job,
        after_round=state.after_round,
        plan=state.plan,
        roster_digest=state.roster_digest,
        survivors=state.survivors,
    )


def turn_missed(state: Confirming, _event: TurnMissed) -> ClientStep:
    """The others open the masks; this client's shares are gone from here all the same."""
    return Step(state=_revealed(state, AwaitingSum), effects=(AwaitResult(mean_bytes=mean_bytes(state.plan)),))


def unmasking_accepted(state: Revealed, _event: UnmaskingAccepted) -> ClientStep:
    """Nothing but the end of the round is left to wait for."""
    return Step(state=AwaitingSum(**vars(state)), effects=(AwaitResult(mean_bytes=mean_bytes(state.plan)),))


def sum_published(state: AwaitingSum, event: ResultPublished) -> ClientStep:
    """10.7: take the result if it is the sum of exactly the survivors, and the mean is the one signed."""
    verify_result(
        state.plan,
        state.policy,
        state.coordinator,
        event.result,
        client=state.client,
        roster=state.survivors,
        roster_digest=state.roster_digest,
    )
    result = event.result.message
    verify_contributors(state.survivors, result.contributors)
    verify_mean(state.plan, result, event.mean_digest, event.mean_bytes)
    deliver = DeliverResult(round=state.plan.round, result=result)
    return Step(state=Done(plan=state.plan, result=result), effects=(deliver,))


_P = ClientPhase
MOVES: dict[tuple[Hashable, type], Callable[[Any, Any], ClientStep]] = {
    (_P.PLANNED, SecretsDrawn): secrets_drawn,
    (_P.KEYS_SHOWN, MaskingRosterFrozen): roster_frozen,
    (_P.SHARING, SharesShown): shares_shown,
    (_P.MASKING, VectorMasked): vector_masked,
    (_P.VECTOR_SENT, VectorAccepted): vector_accepted,
    (_P.VECTOR_COUNTED, SurvivorsShown): survivors_shown,
    (_P.CONFIRMING, ConfirmationsShown): confirmations_shown,
    (_P.CONFIRMING, TurnMissed): turn_missed,
    (_P.REVEALED, UnmaskingAccepted): unmasking_accepted,
    (_P.AWAITING_SUM, ResultPublished): sum_published,
}
"""What only a masking round has; joining and ending are in `secagg.roles.client.rules`."""
ENDING = (
    _P.KEYS_SHOWN,
    _P.SHARING,
    _P.VECTOR_SENT,
    _P.VECTOR_COUNTED,
    _P.CONFIRMING,
    _P.REVEALED,
    _P.AWAITING_SUM,
)
"""Phases in which the driver can hear of the end of the round."""
