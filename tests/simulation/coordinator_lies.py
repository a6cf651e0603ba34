"""A coordinator that lies, and what it shows to clients; what it tells key holders is in `lying_calls`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum

from secagg import codec
from secagg.ids import ClientId
from secagg.messages.ceremony import KeyStatement
from secagg.messages.round import FrozenRoster, Half, Result
from secagg.messages.signed import Authenticated
from secagg.roles.coordinator.events import KeyCertified
from secagg.signing import SignedMessage
from tests.pki_material import COORDINATOR, NOW
from tests.simulation.coordinator_node import CoordinatorNode, Ended, Offer
from tests.simulation.round_material import holder_party, identity, impostor, read


class CoordinatorFate(Enum):
    """What the coordinator does; HONEST and STOPS follow the protocol."""

    HONEST = "honest"
    STOPS = "is stopped in the middle"
    SPLITS_ROSTER = "shows some clients a roster without one of the others"
    SHORT_ROSTER = "shows a client a roster of two"
    LEAVES_OUT = "shows a client a roster without it"
    FORGES_KEY = "shows a public key of its own beside the holders' statements"
    FORGES_STATEMENTS = "has strangers vouch for the key in the holders' names"
    REPLAYS_KEY = "shows the key of another round"
    DROPS_UPLOAD = "thanks a client for its upload, and counts it not"
    BENDS_MEAN = "hands out another mean than it signed"
    BENDS_RESULT = "signs a result that leaves out a contributor"
    REPLAYS_RESULT = "shows the result of another round"
    SPLITS_SETS = "asks different holders to open different sets"
    ASKS_TWICE = "asks for a second set, with one client fewer"
    ASKS_FOR_ONE = "asks to open a single client's update"
    SWAPS_C1 = "shows the c1 of one client as another's"
    REPLAYS_UPLOAD = "shows an upload of another round"
    BENDS_CEREMONY = "relays what holders said in the ceremony altered, exchanged or in part"


class LyingDesk(CoordinatorNode):
    """Shows clients something else; `other` is the certified key of another round."""

    def lie(self, fate: CoordinatorFate, other: KeyCertified | None, victim: ClientId) -> None:
        self.fate, self._another, self._victim = fate, other, victim

    @property
    def _other(self) -> KeyCertified:
        assert self._another is not None
        return self._another

    async def offer(self, client: ClientId) -> Offer | Ended | None:
        offer = await super().offer(client)
        if not isinstance(offer, Offer):
            return offer
        bundle = offer.bundle
        match self.fate:
            case CoordinatorFate.FORGES_KEY:
                return replace(offer, bundle=replace(bundle, b=self._other.bundle.b))
            case CoordinatorFate.FORGES_STATEMENTS:
                return replace(offer, bundle=replace(bundle, statements=tuple(map(_forged, bundle.statements))))
            case CoordinatorFate.REPLAYS_KEY:
                return replace(offer, bundle=self._other.bundle)
        return offer

    async def roster(self, client: ClientId) -> FrozenRoster | Ended | None:
        roster = await super().roster(client)
        if not isinstance(roster, FrozenRoster):
            return roster
        match self.fate:
            case CoordinatorFate.SPLITS_ROSTER if client != self._victim:
                return _without(roster, self._victim)
            case CoordinatorFate.SHORT_ROSTER:
                own = [one for one in roster.joins if one.message.client == client]
                others = [one for one in roster.joins if one.message.client != client]
                two = sorted([*own, *others[:1]], key=lambda one: one.message.client)
                return replace(roster, joins=tuple(two))
            case CoordinatorFate.LEAVES_OUT if client == self._victim:
                return _without(roster, client)
        return roster

    async def upload(self, signed: SignedMessage, halves: Mapping[Half, bytes]) -> None:
        if self.fate is CoordinatorFate.DROPS_UPLOAD and _signer(signed) == self._victim:
            return
        await super().upload(signed, halves)

    async def result(self, client: ClientId) -> tuple[SignedMessage, bytes] | Ended | None:
        shown = await super().result(client)
        if not isinstance(shown, tuple):
            return shown
        signed, mean = shown
        true = read(signed, Result).message
        match self.fate:
            case CoordinatorFate.BENDS_MEAN:
                return signed, mean[:-1] + bytes([mean[-1] ^ 1])
            case CoordinatorFate.BENDS_RESULT:
                return self._sign(replace(true, contributors=tuple(c for c in true.contributors if c != client))), mean
            case CoordinatorFate.REPLAYS_RESULT:
                return self._sign(replace(true, plan_digest=self._other.plan.digest)), mean
        return shown

    @staticmethod
    def _sign(result: Result) -> SignedMessage:
        return codec.sign(result, identity(COORDINATOR).signer)


def _signer(signed: SignedMessage) -> str:
    return identity(COORDINATOR).trust.verify_certificate(signed.certificate, at=NOW).name


def _without(roster: FrozenRoster, client: ClientId) -> FrozenRoster:
    return replace(roster, joins=tuple(one for one in roster.joins if one.message.client != client))


def _forged(statement: Authenticated[KeyStatement]) -> Authenticated[KeyStatement]:
    stranger = impostor(holder_party(statement.message.holder))
    return replace(statement, signed=codec.sign(statement.message, stranger.signer))
