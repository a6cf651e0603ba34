"""A sealed pair opens for its receiver, from its sender, in its round, and for nobody else."""

from typing import Any

import numpy as np
import pytest

from secagg.errors import MessageError
from secagg.ids import ClientId, Digest
from secagg.masking.agreement import public_key
from secagg.masking.sealing import decode_pair, encode_pair, open_sealed, seal
from secagg.masking.shamir import PAIR_BYTES, SEALED_PAIR_BYTES

ALICE, BOB, EVE = b"a" * 32, b"b" * 32, b"e" * 32
CONTEXT: dict[str, Any] = {
    "plan_digest": Digest(b"p" * 32),
    "roster_digest": Digest(b"r" * 32),
    "sender": ClientId("alice"),
    "receiver": ClientId("bob"),
}
CHANGES = [
    {"plan_digest": Digest(b"x" * 32)},
    {"roster_digest": Digest(b"x" * 32)},
    {"sender": ClientId("eve")},
    {"receiver": ClientId("eve")},
    {"sender": ClientId("bob"), "receiver": ClientId("alice")},
]
SHARES = np.arange(18, dtype=np.uint32).reshape(2, 9)
PAIR = encode_pair(*SHARES)


def sealed(**changed: Any) -> bytes:
    return seal(ALICE, public_key(BOB), PAIR, **CONTEXT | changed)


def test_the_receiver_opens_what_the_sender_sealed() -> None:
    opened = open_sealed(BOB, public_key(ALICE), sealed(), **CONTEXT)
    assert len(opened) == PAIR_BYTES
    assert np.array_equal(decode_pair(opened), SHARES)
    assert len(sealed()) == SEALED_PAIR_BYTES


@pytest.mark.parametrize("changed", CHANGES)
def test_it_opens_in_no_other_context(changed: dict[str, Any]) -> None:
    with pytest.raises(MessageError, match="do not open"):
        open_sealed(BOB, public_key(ALICE), sealed(), **CONTEXT | changed)


@pytest.mark.parametrize("changed", CHANGES)
def test_no_two_messages_have_one_key(changed: dict[str, Any]) -> None:
    """With one key and nonce for both, equal plaintexts would give equal bytes before the tag."""
    assert sealed(**changed)[:PAIR_BYTES] != sealed()[:PAIR_BYTES]


def test_others_cannot_open_and_others_cannot_have_sealed() -> None:
    with pytest.raises(MessageError, match="alice"):
        open_sealed(EVE, public_key(ALICE), sealed(), **CONTEXT)
    with pytest.raises(MessageError, match="alice"):
        open_sealed(BOB, public_key(EVE), sealed(), **CONTEXT)


@pytest.mark.parametrize("position", range(SEALED_PAIR_BYTES))
def test_no_byte_can_be_altered(position: int) -> None:
    box = bytearray(sealed())
    box[position] ^= 0x80
    with pytest.raises(MessageError, match="do not open"):
        open_sealed(BOB, public_key(ALICE), bytes(box), **CONTEXT)


def test_nothing_is_sealed_to_a_key_that_everybody_shares() -> None:
    with pytest.raises(MessageError, match="public key"):
        seal(ALICE, bytes(32), PAIR, **CONTEXT)


def test_the_plaintext_does_not_show() -> None:
    assert PAIR[4:] not in sealed()


@pytest.mark.parametrize("length", [0, 36, 71, 73])
def test_a_pair_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(MessageError, match="72 bytes"):
        decode_pair(bytes(length))
