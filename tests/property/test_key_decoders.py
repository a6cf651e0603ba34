"""Every decoder of keys and answers: any bytes give `FormatError`, or what encodes to them again."""

from collections.abc import Callable
from functools import cache
from typing import Protocol

from hypothesis import given
from hypothesis import strategies as st

from he.ceremony import Dealing, TrialAnswer
from he.errors import FormatError
from he.key_share import KeyShare
from he.keygen import generate
from he.partial import Partial, partially_decrypt
from tests.ceremony_room import CeremonyRoom
from tests.he_material import random_ciphertext, small_parameters

PARAMETERS = small_parameters(holders=4, threshold=2, values=100)


class Encodable(Protocol):
    def to_bytes(self) -> bytes: ...


Decoder = Callable[[bytes], Encodable]

DECODERS: dict[str, Decoder] = {
    "key share": lambda data: KeyShare.from_bytes(PARAMETERS, data),
    "dealing": lambda data: Dealing.from_bytes(PARAMETERS, data, sender=1, receiver=2),
    "trial answer": lambda data: TrialAnswer.from_bytes(PARAMETERS, data, holder=3),
    "partial": lambda data: Partial.from_bytes(PARAMETERS, data),
}


@cache
def sound_bytes(kind: str) -> bytes:
    if kind in ("key share", "partial"):
        share = generate(PARAMETERS, randomness=bytes(32))[1][0]
        answer = partially_decrypt(share, random_ciphertext(PARAMETERS, 1))
        return share.to_bytes() if kind == "key share" else answer.to_bytes()
    room = CeremonyRoom(PARAMETERS, 1)
    room.answer_trial()
    dealing = room.dealings[1, 2]
    assert dealing is not None
    return dealing if kind == "dealing" else room.answers[3]


kinds = st.sampled_from(sorted(DECODERS))


def decodes_or_refuses(kind: str, data: bytes) -> None:
    try:
        read = DECODERS[kind](data)
    except FormatError:
        return
    assert read.to_bytes() == data


@given(kind=kinds, data=st.binary(max_size=200))
def test_arbitrary_bytes(kind: str, data: bytes) -> None:
    decodes_or_refuses(kind, data)


@given(kind=kinds, cut=st.integers(0, 1 << 20), extra=st.binary(max_size=8))
def test_cut_and_lengthened_bytes(kind: str, cut: int, extra: bytes) -> None:
    sound = sound_bytes(kind)
    decodes_or_refuses(kind, sound[: cut % (len(sound) + 1)] + extra)


@given(kind=kinds, at=st.one_of(st.integers(0, 200), st.integers(0, 1 << 20)), byte=st.integers(0, 255))
def test_one_changed_byte(kind: str, at: int, byte: int) -> None:
    changed = bytearray(sound_bytes(kind))
    changed[at % len(changed)] = byte
    decodes_or_refuses(kind, bytes(changed))


@given(kind=kinds, other=kinds)
def test_one_message_is_never_read_as_another(kind: str, other: str) -> None:
    sound = sound_bytes(kind)
    assert DECODERS[kind](sound).to_bytes() == sound
    if kind != other:
        try:
            DECODERS[other](sound)
        except FormatError:
            return
        raise AssertionError(f"a {kind} was read as a {other}")
