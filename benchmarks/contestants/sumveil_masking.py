"""One of our clients through all phases of a masking round, with real neighbours around it."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from benchmarks.contestants.masking_people import (
    Numbers,
    Person,
    names_of,
    numbers_of,
    plan_of,
    roster_of,
    update_of,
    versions,
)
from benchmarks.stage import serve
from secagg import codec
from secagg import trust as trust_module
from secagg.client.updates import packed
from secagg.ids import ClientId
from secagg.masking.masks import MaskedSum, pieces
from secagg.messages.masking import Confirmation, MaskingRoster
from secagg.messages.signed import Authenticated
from secagg.plan import RoundPlan
from tests.adversarial.masking_people import signer_of, trust
from tests.pki_material import NOW

OWN = 0
R = TypeVar("R")


class Around:
    """All that the others in a round say to the measured client; none of its secrets change from one repetition to the next."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.plan: RoundPlan = plan_of(case)
        self.numbers: Numbers = numbers_of(case, self.plan)
        self.names = names_of(case["clients"])
        people = [Person(place, self.plan, self.numbers) for place in range(len(self.names))]
        roster = roster_of(self.plan, self.numbers, [one.joins() for one in people])
        self.roster = codec.masking_roster_to_wire(roster)
        own = people[OWN]
        own.takes_roster(roster)
        self.sealed: dict[ClientId, bytes] = {}
        around = own.state.house.neighbours_of(own.client)
        for one in (person for person in people if person.client in around):
            shares = one.takes_roster(roster).message
            place = one.state.house.neighbours_of(one.client).index(own.client)
            self.sealed[one.client] = shares.sealed[place]
        self.update = update_of(OWN, self.plan.spec)
        self.confirmations = self._confirmations(own, people)
        self.read, self.said = self.read_roster(), self.read_confirmations()

    def read_roster(self) -> MaskingRoster:
        """Off the wire, every signature verified."""
        return codec.masking_roster_from_wire(self.roster, trust=trust(), at=NOW)

    def read_confirmations(self) -> tuple[Authenticated[Confirmation], ...]:
        """Off the wire, every signature verified."""
        return codec.authenticate_all(self.confirmations, Confirmation, trust=trust(), at=NOW)

    def _confirmations(self, own: Person, people: list[Person]) -> list[Any]:
        """The others sign what the measured client will sign: a quorum, its neighbours first."""
        own.sees_sharers(self.names, self.sealed, self.update)
        said = own.sees_survivors(self.names).message
        near = [one.client for one in people if one.client in self.sealed]
        far = [one.client for one in people if one.client not in self.sealed and one is not own]
        signed = [
            codec.sign(replace(said, client=name), signer_of(name)) for name in (near + far)[: self.numbers.quorum]
        ]
        return [codec.signed_to_wire(one) for one in signed]


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}

    def time(self, phase: str, work: Callable[[], R]) -> R:
        began = time.perf_counter()
        done = work()
        self.phases[phase] = time.perf_counter() - began
        return done


def client(case: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """What a client computes from its keys to its last answer, as much as a protocol without signatures has to do.

    With SIGNED in the environment as it is done: signature and certificate of every join and of a quorum's confirmations verified, and
    no certificate seen before where it says "at first sight".
    """
    around, signed = Around(case), os.environ.get("SIGNED", "")
    down = around.roster.ByteSize() + sum(map(len, around.sealed.values()))
    down += sum(one.ByteSize() for one in around.confirmations)

    def run() -> dict[str, Any]:
        if signed == "at first sight":
            forget_certificates()
        clock, one = Clock(), Person(OWN, around.plan, around.numbers)
        sent = [clock.time("keys", one.joins)]
        roster = clock.time("verify joins", around.read_roster) if signed else around.read
        sent.append(clock.time("seal shares", lambda: one.takes_roster(roster)))
        sent.append(
            clock.time("open shares, mask", lambda: one.sees_sharers(around.names, around.sealed, around.update))
        )
        sent.append(clock.time("confirm", lambda: one.sees_survivors(around.names)))
        said = clock.time("verify confirmations", around.read_confirmations) if signed else around.said
        sent.append(clock.time("reveal", lambda: one.sees_confirmations(said)))
        _check(one, around)
        vector = sum(map(len, one.vector))
        return {
            "seconds": sum(clock.phases.values()),
            "bytes": vector + sum(len(codec.signed_to_bytes(each.signed)) for each in sent),
            "phases": clock.phases,
            "bytes_down": down,
            "neighbours": around.numbers.neighbours,
        }

    return run


def forget_certificates() -> None:
    """As in a client's first round: a process remembers what it verified, and the last repetition was this process too."""
    trust_module._vouched.cache_clear()  # noqa: SLF001 - nobody forgets but a benchmark


def _check(one: Person, around: Around) -> None:
    """Take the client's masks off again: what is left is its update to one step of the grid."""
    parameters = around.plan.spec.masking_parameters
    total = MaskedSum(parameters)
    for (start, stop), piece in zip(pieces(parameters), one.vector, strict=True):
        total.add(start, stop, piece)
        total.take_off(start, stop, one.masks)
    true, _ = packed(around.update, 1.0, around.plan.spec)
    assert np.abs(total.values(1) - true).max() < 1.001 * parameters.step


if __name__ == "__main__":
    serve({"client": client}, versions)
