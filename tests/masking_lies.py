"""What a lying coordinator does to its answers in a masking round, and what an honest client says to it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from secagg import codec, transcript
from secagg.errors import FaultyCoordinatorError, PolicyError, SecAggError
from secagg.identity import Party, Role
from secagg.ids import ClientId, Digest, RoundNumber
from secagg.messages.masking import Confirmation, MaskingJoin, MaskingRoster
from secagg.messages.round import Result
from secagg.policy import ClientPolicy
from secagg.tls_identity import TlsIdentity
from secagg.wire.v1 import client_service_pb2 as client_pb
from secagg.wire.v1 import masking_service_pb2 as pb
from tests.masking_material import ALICE, BOB, CLIENTS, GRACE, PLAN
from tests.scripted_coordinator import PARTY
from tests.scripted_masking import OTHERS, MaskingPlay

WITHOUT_GRACE = CLIENTS[:-1]


def places(clients: Iterable[ClientId]) -> list[int]:
    return [CLIENTS.index(client) for client in clients]


def identity(play: MaskingPlay, client: ClientId) -> TlsIdentity:
    return play.stage.made.identity(Party(role=Role.CLIENT, name=client))


def signed(play: MaskingPlay, message: Any) -> Any:
    """Sign in a client's name, as a corrupt one would, or an honest one that is shown something else."""
    return codec.signed_to_wire(codec.sign(message, identity(play, message.client).signer))


def confirmations(play: MaskingPlay, by: Iterable[ClientId] = OTHERS, **changes: Any) -> list[Any]:
    """Return what others sign of the sets that alice was shown, with changes."""
    state = play.round.state
    fields = {
        "plan_digest": play.plan.digest,
        "roster_digest": state.frozen_digest,
        "survivors_digest": state.survivors_digest,
        **changes,
    }
    return [signed(play, Confirmation(client=client, **fields)) for client in by]


def show_only(field: str, clients: Iterable[ClientId]) -> Callable[[MaskingPlay, Any], None]:
    def bend(_play: MaskingPlay, answer: Any) -> None:
        del getattr(answer, field)[:]
        getattr(answer, field).extend(places(clients))

    return bend


def show_confirmations(make: Callable[[MaskingPlay], list[Any]]) -> Callable[[MaskingPlay, Any], None]:
    def bend(play: MaskingPlay, answer: pb.WaitForConfirmationsResponse) -> None:
        del answer.confirmations[:]
        answer.confirmations.extend(make(play))

    return bend


def other_join(play: MaskingPlay, client: ClientId) -> MaskingJoin:
    """Return a second join of a client, with keys that no other join has."""
    keys = [bytes([number]) + bytes(30) + b"\x01" for number in (9, 25)]
    return MaskingJoin(
        plan_digest=play.plan.digest, client=client, mask_key=keys[0], share_key=keys[1], seed_commitment=bytes(32)
    )


def replace_join(client: ClientId) -> Callable[[MaskingPlay, Any], None]:
    def bend(play: MaskingPlay, answer: client_pb.WaitForRosterResponse) -> None:
        join = signed(play, other_join(play, client))
        answer.masking_roster.joins[CLIENTS.index(client)].CopyFrom(join)

    return bend


def roster_of_others(play: MaskingPlay) -> Digest:
    """Return the digest of the roster that everybody but alice was shown: bob's join is another one in it."""
    shown: MaskingRoster = play.round.state.roster
    bob = shown.joins[CLIENTS.index(BOB)]
    joins = [replace(bob, message=other_join(play, BOB)) if one is bob else one for one in shown.joins]
    return transcript.masking_roster_digest(replace(shown, joins=tuple(joins)))


def of_other_roster(play: MaskingPlay) -> list[Any]:
    roster = roster_of_others(play)
    sharers = transcript.sharers_digest(roster, CLIENTS)
    return confirmations(play, roster_digest=roster, survivors_digest=transcript.survivors_digest(sharers, CLIENTS))


def of_set(play: MaskingPlay, sharers: Iterable[ClientId], survivors: Iterable[ClientId]) -> list[Any]:
    known = transcript.sharers_digest(play.round.state.frozen_digest, sharers)
    return confirmations(play, survivors_digest=transcript.survivors_digest(known, survivors))


def of_earlier_round(play: MaskingPlay) -> list[Any]:
    return confirmations(play, plan_digest=replace(PLAN, round=RoundNumber(2)).digest)


def weaker(**numbers: int) -> Callable[[MaskingPlay, Any], None]:
    def bend(_play: MaskingPlay, answer: client_pb.WaitForRosterResponse) -> None:
        for name, number in numbers.items():
            setattr(answer.masking_roster, name, number)

    return bend


def without_join(client: ClientId) -> Callable[[MaskingPlay, Any], None]:
    def bend(_play: MaskingPlay, answer: client_pb.WaitForRosterResponse) -> None:
        del answer.masking_roster.joins[CLIENTS.index(client)]

    return bend


def result_with(signer: Party = PARTY, **changes: Any) -> Callable[[MaskingPlay, Any], None]:
    def bend(play: MaskingPlay, answer: client_pb.WaitForResultResponse) -> None:
        shown = codec.signed_from_wire(answer.result)
        message = codec.authenticate(shown, Result, trust=play.stage.identity.trust, at=play.stage.made.at).message
        lie = codec.sign(replace(message, **changes), play.stage.made.identity(signer).signer)
        answer.result.CopyFrom(codec.signed_to_wire(lie))

    return bend


@dataclass(frozen=True, kw_only=True)
class Lie:
    """What is done to the answer of a method, and what alice says to it."""

    method: str
    bend: Callable[[MaskingPlay, Any], None]
    why: str
    kind: type[SecAggError] = FaultyCoordinatorError
    policy: ClientPolicy | None = None


LIES = {
    "a threshold that one corrupt client gets around": Lie(
        method="WaitForRoster", bend=weaker(threshold=3), why="too weak: threshold 3 of 6 neighbours"
    ),
    "a quorum that two sets can have": Lie(method="WaitForRoster", bend=weaker(quorum=4), why="too weak: quorum 4"),
    "few neighbours": Lie(
        method="WaitForRoster", bend=weaker(neighbours=4, threshold=2), why="too weak: threshold 2 of 4 neighbours"
    ),
    "a roster without the one who asks": Lie(
        method="WaitForRoster", bend=without_join(ALICE), why="does not hold the join of alice"
    ),
    "the own join with other keys": Lie(
        method="WaitForRoster", bend=replace_join(ALICE), why="does not hold the join of alice"
    ),
    "fewer corrupt clients borne than the policy has": Lie(
        method="WaitForRoster",
        bend=lambda _play, _answer: None,
        kind=PolicyError,
        why="bears 1 corrupt clients, this client allows for 2",
        policy=ClientPolicy(min_contributors=4, corrupt_clients=2),
    ),
    "sharers that isolate": Lie(
        method="WaitForShares",
        bend=show_only("sharers", CLIENTS[:4]),
        why="3 neighbours of alice are among the sharers",
    ),
    "sharers without the one who asks": Lie(
        method="WaitForShares", bend=show_only("sharers", OTHERS), why="leaves out alice"
    ),
    "survivors without the one who asks": Lie(
        method="WaitForSurvivors", bend=show_only("survivors", OTHERS), why="leaves out alice"
    ),
    "too few survivors": Lie(
        method="WaitForSurvivors", bend=show_only("survivors", CLIENTS[:3]), why="names 3 clients, at least 4"
    ),
    "survivors twice": Lie(
        method="WaitForSurvivors", bend=show_only("survivors", (*CLIENTS, GRACE)), why="its answer is refused"
    ),
    "confirmations of those who were shown another roster": Lie(
        method="WaitForConfirmations", bend=show_confirmations(of_other_roster), why="another plan, roster or set"
    ),
    "confirmations of those who were shown other sharers": Lie(
        method="WaitForConfirmations",
        bend=show_confirmations(lambda play: of_set(play, WITHOUT_GRACE, WITHOUT_GRACE)),
        why="another plan, roster or set",
    ),
    "confirmations of those who were shown other survivors": Lie(
        method="WaitForConfirmations",
        bend=show_confirmations(lambda play: of_set(play, CLIENTS, WITHOUT_GRACE)),
        why="another plan, roster or set",
    ),
    "one confirmation of another set among enough of the right one": Lie(
        method="WaitForConfirmations",
        bend=show_confirmations(
            lambda play: [*confirmations(play, OTHERS[:5]), *of_set(play, CLIENTS, WITHOUT_GRACE)[5:]]
        ),
        why="a confirmation of grace for another plan, roster or set",
    ),
    "confirmations of another round": Lie(
        method="WaitForConfirmations", bend=show_confirmations(of_earlier_round), why="another plan, roster or set"
    ),
    "confirmations of a minority": Lie(
        method="WaitForConfirmations",
        bend=show_confirmations(lambda play: confirmations(play, OTHERS[:3])),
        why="4 clients confirmed the survivors, 5 are due",
    ),
    "one confirmation many times": Lie(
        method="WaitForConfirmations",
        bend=show_confirmations(lambda play: confirmations(play, [BOB]) * 6),
        why="a confirmation twice",
    ),
    "confirmations of strangers": Lie(
        method="WaitForConfirmations",
        bend=show_confirmations(lambda play: confirmations(play, map(ClientId, ("mallory", "moritz", "max", "mia")))),
        why="no survivor",
    ),
    "a result of fewer contributors": Lie(
        method="WaitForResult", bend=result_with(contributors=WITHOUT_GRACE), why="other clients than the survivors"
    ),
    "a result of another roster": Lie(
        method="WaitForResult", bend=result_with(roster_digest=Digest(bytes(32))), why="to another roster"
    ),
    "a result that another coordinator signed": Lie(
        method="WaitForResult", bend=result_with(Party(role=Role.COORDINATOR, name="other")), why="signed by"
    ),
    "a result whose mean is another": Lie(
        method="WaitForResult", bend=result_with(mean_digest=Digest(hashlib.sha256(b"other").digest())), why="mean"
    ),
}
