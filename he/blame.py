"""Who lied in a ceremony whose trial failed: everything is recomputed from the opened seeds.

Pure and deterministic: whoever has the same evidence names the same holders. A holder is named
only for a message of its own that differs from what its seed gives, or, for its trial answer,
from what the dealings that it truly received give. An honest holder is therefore never named,
whatever the others do; a holder that stays silent is `silent`, not a liar, because the coordinator
relays and may have dropped its message.

Source: docs/protocol.md, section "Key ceremony" (DESIGN 4.2, step 4).
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from he.dealing import Dealing, assemble, deal
from he.drawing import (
    SEED_BYTES,
    HolderSecrets,
    commitment,
    draw,
    hpke_public_key,
    seed_commitment,
)
from he.errors import FormatError
from he.parameters import Parameters
from he.trial import trial_answer


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evidence:
    """The signed messages of a dead ceremony, by holder (1..n).

    The caller has verified that each was signed by its holder *for this context*, and answers for
    this key id: one made for another transcript proves nothing and must be left out. An absent
    entry is a message that never arrived. `dealings` maps (sender, receiver) to the
    bytes that the receiver's seed-derived HPKE key opens, or to None where a signed dealing did
    not open under it; dealings of a holder to itself are not looked at. `openings` are b_i as
    sent, `answers` trial answers as sent.
    """

    parameters: Parameters
    context: bytes
    key_id: bytes
    seed_commitments: Mapping[int, bytes]
    hpke_public_keys: Mapping[int, bytes]
    commitments: Mapping[int, bytes]
    openings: Mapping[int, bytes]
    dealings: Mapping[tuple[int, int], bytes | None]
    answers: Mapping[int, bytes]
    seeds: Mapping[int, bytes]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Holders proved to have lied, and holders whose seed never arrived; both ascending."""

    liars: tuple[int, ...]
    silent: tuple[int, ...]


def blame(evidence: Evidence) -> Verdict:
    """Name exactly those whose messages differ from the recomputation."""
    recomputation = _Recomputation(evidence)
    holders = range(1, evidence.parameters.holders + 1)
    return Verdict(
        liars=tuple(holder for holder in holders if recomputation.lied(holder)),
        silent=tuple(holder for holder in holders if holder not in evidence.seeds),
    )


class _Recomputation:
    """What every holder with a valid seed ought to have sent."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._holders = range(1, evidence.parameters.holders + 1)

    def lied(self, holder: int) -> bool:
        return (
            self._seed_is_wrong(holder)
            or self._opening_is_wrong(holder)
            or any(self._dealing_is_wrong(holder, receiver) for receiver in self._holders)
            or self._answer_is_wrong(holder)
        )

    @cached_property
    def _secrets(self) -> dict[int, HolderSecrets]:
        """Draws of those whose seed fits both its commitment and the HPKE key of their hello.

        A holder whose HPKE key is not its seed's cannot hold a dealing against anyone: nobody
        can tell what it was sent.
        """
        evidence = self._evidence
        return {
            holder: draw(evidence.parameters, holder, seed, evidence.context)
            for holder, seed in evidence.seeds.items()
            if holder in self._holders and not self._seed_is_wrong(holder)
        }

    def _seed_is_wrong(self, holder: int) -> bool:
        seed = self._evidence.seeds.get(holder)
        if seed is None:
            return False
        if len(seed) != SEED_BYTES:
            return True
        committed = self._evidence.seed_commitments.get(holder)
        published = self._evidence.hpke_public_keys.get(holder)
        return _differs(committed, seed_commitment(holder, seed)) or _differs(published, hpke_public_key(holder, seed))

    def _opening_is_wrong(self, holder: int) -> bool:
        opening = self._evidence.openings.get(holder)
        committed = self._evidence.commitments.get(holder)
        context = self._evidence.context
        if opening is not None and _differs(committed, commitment(holder, context, opening)):
            return True
        secrets = self._secrets.get(holder)
        return secrets is not None and (
            _differs(opening, secrets.opening_bytes) or _differs(committed, secrets.opening_commitment)
        )

    def _dealing_is_wrong(self, sender: int, receiver: int) -> bool:
        pair = (sender, receiver)
        if sender == receiver or receiver not in self._secrets or pair not in self._dealt:
            return False
        dealt, secrets = self._dealt[pair], self._secrets.get(sender)
        if dealt is None or secrets is None:
            return dealt is None
        return _differs(dealt.to_bytes(), deal(secrets, receiver).to_bytes())

    def _answer_is_wrong(self, holder: int) -> bool:
        answer, secrets = self._evidence.answers.get(holder), self._secrets.get(holder)
        if answer is None or secrets is None:
            return False
        received = [self._dealt.get((sender, holder)) for sender in self._holders]
        received[holder - 1] = deal(secrets, holder)
        dealings = [dealing for dealing in received if dealing is not None]
        if len(dealings) < len(received):
            return False  # it could not compute an answer, so there is none to compare with
        evidence = self._evidence
        share = assemble(evidence.parameters, holder, evidence.context, dealings)
        return _differs(answer, trial_answer(share, evidence.key_id).to_bytes())

    @cached_property
    def _dealt(self) -> dict[tuple[int, int], Dealing | None]:
        """Dealings as received; None where one arrived that is not a dealing."""
        return {pair: self._parsed(*pair, data) for pair, data in self._evidence.dealings.items()}

    def _parsed(self, sender: int, receiver: int, data: bytes | None) -> Dealing | None:
        if data is None:
            return None
        try:
            return Dealing.from_bytes(self._evidence.parameters, data, sender=sender, receiver=receiver)
        except FormatError:
            return None


def _differs(received: bytes | None, expected: bytes) -> bool:
    """Whether a message arrived and is another than expected."""
    return received is not None and not hmac.compare_digest(received, expected)
