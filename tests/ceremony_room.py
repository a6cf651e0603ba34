"""A whole key ceremony in memory, every message of which a test may bend before it is used."""

import struct
from functools import cached_property
from hashlib import sha256

import numpy as np

from he.ceremony import (
    CeremonyShare,
    Dealing,
    Evidence,
    HolderSecrets,
    TrialAnswer,
    assemble,
    collective_b,
    commitment,
    deal,
    draw,
    hpke_public_key,
    nonce,
    opening_from_bytes,
    public_a,
    seed_commitment,
    trial_answer,
    verify_trial,
)
from he.errors import FormatError
from he.parameters import Parameters
from he.public_key import PublicKey
from he.sharing import evaluate


class CeremonyRoom:
    """The messages of n holders. Bend them, then `answer_trial`, `verify` and `evidence`."""

    def __init__(self, parameters: Parameters, seed: int) -> None:
        self.parameters = parameters
        self.everyone = range(1, parameters.holders + 1)
        self.seeds = {holder: sha256(struct.pack("<QI", seed, holder)).digest() for holder in self.everyone}
        self.hpke_public_keys = {holder: hpke_public_key(holder, s) for holder, s in self.seeds.items()}
        self.seed_commitments = {holder: seed_commitment(holder, s) for holder, s in self.seeds.items()}
        nonces = b"".join(nonce(holder, s) for holder, s in self.seeds.items())
        self.context = sha256(nonces + parameters.digest()).digest()
        self.secrets = {holder: draw(parameters, holder, s, self.context) for holder, s in self.seeds.items()}
        self.commitments = {holder: drawn.opening_commitment for holder, drawn in self.secrets.items()}
        self.openings = {holder: drawn.opening_bytes for holder, drawn in self.secrets.items()}
        self.dealings: dict[tuple[int, int], bytes | None] = {
            (sender, receiver): deal(self.secrets[sender], receiver).to_bytes()
            for sender in self.everyone
            for receiver in self.everyone
        }
        self.answers: dict[int, bytes] = {}

    @cached_property
    def key_id(self) -> bytes:
        """Hash of all that was sent before the trial, dealings included; fixed when first read."""
        sent = [self.context, *self.openings.values(), *(data or b"" for data in self.dealings.values())]
        return sha256(b"".join(sha256(part).digest() for part in sent)).digest()

    @property
    def public_key(self) -> PublicKey:
        openings = [opening_from_bytes(self.parameters, data) for data in self.openings.values()]
        return PublicKey(
            self.parameters, public_a(self.parameters, self.context), collective_b(self.parameters, openings)
        )

    def share(self, holder: int) -> CeremonyShare | None:
        """What `holder` makes of its dealings; None when one of them is none."""
        received = []
        for sender in self.everyone:
            data = self.dealings.get((sender, holder))
            try:
                received.append(Dealing.from_bytes(self.parameters, data or b"", sender=sender, receiver=holder))
            except FormatError:
                return None
        return assemble(self.parameters, holder, self.context, received)

    def answer_trial(self) -> None:
        """Let everybody who can compute an answer send it."""
        for holder in self.everyone:
            share = self.share(holder)
            if share is not None:
                self.answers[holder] = trial_answer(share, self.key_id).to_bytes()

    def verify(self) -> None:
        """Judge the trial as every holder does."""
        answers = [
            TrialAnswer.from_bytes(self.parameters, data, holder=holder) for holder, data in self.answers.items()
        ]
        verify_trial(self.public_key, answers)

    def evidence(self) -> Evidence:
        return Evidence(
            parameters=self.parameters,
            context=self.context,
            key_id=self.key_id,
            seed_commitments=self.seed_commitments,
            hpke_public_keys=self.hpke_public_keys,
            commitments=self.commitments,
            openings=self.openings,
            dealings=self.dealings,
            answers=self.answers,
            seeds=self.seeds,
        )

    # what a liar may do before the trial

    def lie_share(self, liar: int, victim: int) -> None:
        """Deal one residue off the polynomial."""
        dealing = deal(self.secrets[liar], victim)
        dealing.share[0, 5] = (int(dealing.share[0, 5]) + 1) % self.parameters.key_primes[0]
        self.dealings[liar, victim] = dealing.to_bytes()

    def lie_smudging_part(self, liar: int, victim: int) -> None:
        """Deal another part of a smudging key than the other members got."""
        dealing = deal(self.secrets[liar], victim)
        parts = dict(dealing.smudging_parts)
        parts[next(iter(parts))] = bytes(32)
        forged = Dealing(
            parameters=self.parameters, sender=liar, receiver=victim, share=dealing.share, smudging_parts=parts
        )
        self.dealings[liar, victim] = forged.to_bytes()

    def lie_secret(self, liar: int, victim: int) -> None:
        """Share, without a flaw, another secret than the one in b_i."""
        polynomial = self.secrets[liar].polynomial.copy()
        polynomial[0, :, 0] = 0
        polynomial[0, :, 1] = 1
        self._deal_from(liar, polynomial)

    def lie_degree(self, liar: int, victim: int) -> None:
        """Share the right secret by a polynomial of degree t: any t holders open, but differently."""
        polynomial = self.secrets[liar].polynomial
        extra = np.ones_like(polynomial[:1])
        self._deal_from(liar, np.concatenate([polynomial, extra]))

    def _deal_from(self, liar: int, polynomial: np.ndarray) -> None:
        for receiver in self.everyone:
            honest = deal(self.secrets[liar], receiver)
            forged = Dealing(
                parameters=self.parameters,
                sender=liar,
                receiver=receiver,
                share=evaluate(polynomial, receiver, self.parameters.key_primes),
                smudging_parts=honest.smudging_parts,
            )
            self.dealings[liar, receiver] = forged.to_bytes()

    def lie_garbage(self, liar: int, victim: int) -> None:
        """Send a dealing that does not open."""
        self.dealings[liar, victim] = None

    def lie_format(self, liar: int, victim: int) -> None:
        """Send a dealing for somebody else."""
        self.dealings[liar, victim] = deal(self.secrets[liar], liar).to_bytes()

    def lie_opening(self, liar: int, victim: int) -> None:
        """Open another b_i than was committed to (rogue key)."""
        self.openings[liar] = self._other_opening(liar)

    def lie_commitment(self, liar: int, victim: int) -> None:
        """Commit to, and open, another b_i than the seed's."""
        self.openings[liar] = self._other_opening(liar)
        self.commitments[liar] = commitment(liar, self.context, self.openings[liar])

    def _other_opening(self, liar: int) -> bytes:
        secrets: HolderSecrets = self.secrets[liar]
        opening = secrets.opening.copy()
        opening[0] = (opening[0] + np.uint32(1)) % np.uint32(self.parameters.key_primes[0])
        return opening.tobytes()

    # what a liar may do in the trial and after

    def lie_answer(self, liar: int, victim: int) -> None:
        """Answer the trial with something else."""
        if liar not in self.answers:
            return
        answer = TrialAnswer.from_bytes(self.parameters, self.answers[liar], holder=liar)
        answer.values[0, 3] = (int(answer.values[0, 3]) + 1) % self.parameters.key_primes[0]
        self.answers[liar] = answer.to_bytes()

    def lie_seed(self, liar: int, victim: int) -> None:
        """Open another seed than was committed to."""
        self.seeds[liar] = bytes(32)

    def lie_hpke_key(self, liar: int, victim: int) -> None:
        """Have said hello with an HPKE key that is not the seed's: no dealing to it opens."""
        self.hpke_public_keys[liar] = bytes(32)
        for sender in self.everyone:
            self.dealings[sender, liar] = None


DEALING_LIES = ("share", "smudging_part", "secret", "degree", "garbage", "format", "opening", "commitment")
LATE_LIES = ("answer", "seed", "hpke_key")


def tell(room: CeremonyRoom, lie: str, liar: int, victim: int) -> None:
    """Tell the lie of that name, where the parameters leave room for it."""
    getattr(room, f"lie_{lie}")(liar, victim)
