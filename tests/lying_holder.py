"""A key holder that a test plays: the real machine, an own signature, and a lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from secagg.ids import HolderId
from secagg.messages.ceremony import DealingBundle, Trial, TrialBundle
from secagg.messages.signed import Authenticated
from secagg.roles.key_holder import ceremony
from secagg.roles.key_holder.events import CeremonyEvent, DealingsReceived, Reply
from secagg.roles.key_holder.state import CeremonyState
from secagg.tls_identity import TlsIdentity
from tests.holder_material import with_changes
from tests.key_holder_house import authenticated


@dataclass
class Liar:
    identity: TlsIdentity
    state: CeremonyState

    def step(self, event: CeremonyEvent) -> Reply:
        taken = ceremony.step(self.state, event)
        self.state = taken.state
        reply = taken.effects[-1]
        assert isinstance(reply, Reply)
        return reply

    def signed(self, reply: Reply) -> Authenticated[Any]:
        return authenticated(self.identity, reply.message)

    def say(self, event: CeremonyEvent) -> Authenticated[Any]:
        return self.signed(self.step(event))


def for_receiver(dealings: Sequence[DealingBundle], receiver: HolderId) -> tuple[DealingBundle, ...]:
    return tuple(replace(one, sealed={receiver: one.sealed[receiver]}) for one in dealings)


def lying_trial(liar: Liar, dealings: tuple[DealingBundle, ...]) -> TrialBundle:
    reply = liar.step(DealingsReceived(dealings=dealings))
    answer = reply.attachment[:-1] + bytes([reply.attachment[-1] ^ 1])
    assert isinstance(reply.message, Trial)
    trial = replace(reply.message, answer_digest=hashlib.sha256(answer).digest())
    liar.state = with_changes(liar.state, trial=trial, answer=answer)
    return TrialBundle(trial=authenticated(liar.identity, trial), answer=answer)
