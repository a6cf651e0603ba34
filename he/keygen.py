"""A whole key ceremony in one process, for tests, benchmarks and single-machine use.

Whoever runs it has seen every share: a deployment runs the ceremony between holders instead.
"""

import secrets
import struct
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from he.ceremony import (
    CeremonyShare,
    Dealing,
    HolderSecrets,
    assemble,
    collective_b,
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
from he.key_share import KeyShare
from he.parameters import Parameters
from he.public_key import PublicKey
from he.sampling import derive, framed

RANDOMNESS_BYTES: Final = 32


def generate(parameters: Parameters, *, randomness: bytes | None = None) -> tuple[PublicKey, tuple[KeyShare, ...]]:
    """Run the ceremony's own steps in memory, the trial included.

    `randomness` is a 32-byte master seed that fixes every draw; None takes the system's.
    Returns the public key and the shares of holders 1..n, any `threshold` of which open.
    """
    master = secrets.token_bytes(RANDOMNESS_BYTES) if randomness is None else randomness
    if len(master) != RANDOMNESS_BYTES:
        message = f"randomness must have {RANDOMNESS_BYTES} bytes, not {len(master)}"
        raise ValueError(message)
    seeds = {
        holder: derive(master, b"he holder seed v1", struct.pack("<I", holder))
        for holder in range(1, parameters.holders + 1)
    }
    context = _context(parameters, seeds)
    holders = [draw(parameters, holder, seed, context) for holder, seed in seeds.items()]
    return _finish(parameters, context, holders)


def _finish(
    parameters: Parameters, context: bytes, holders: Sequence[HolderSecrets]
) -> tuple[PublicKey, tuple[KeyShare, ...]]:
    openings = [opening_from_bytes(parameters, drawn.opening_bytes) for drawn in holders]
    public_key = PublicKey(
        parameters=parameters,
        a=public_a(parameters, context),
        b=collective_b(parameters, openings),
    )
    key_id = sha256(framed(b"he key id v1", context, *(h.opening_bytes for h in holders))).digest()
    shares = [_received(drawn, holders) for drawn in holders]
    verify_trial(public_key, [trial_answer(share, key_id) for share in shares])
    return public_key, tuple(share.key_share(key_id) for share in shares)


def _context(parameters: Parameters, seeds: dict[int, bytes]) -> bytes:
    hellos = [
        framed(nonce(holder, seed), hpke_public_key(holder, seed), seed_commitment(holder, seed))
        for holder, seed in seeds.items()
    ]
    return sha256(framed(b"he context v1", parameters.digest(), *hellos)).digest()


def _received(receiver: HolderSecrets, holders: Sequence[HolderSecrets]) -> CeremonyShare:
    """Let one holder read its dealings, in the form in which they would travel."""
    parameters, number = receiver.parameters, receiver.holder
    dealings = [
        Dealing.from_bytes(parameters, deal(sender, number).to_bytes(), sender=sender.holder, receiver=number)
        for sender in holders
    ]
    return assemble(parameters, number, receiver.context, dealings)
