"""The canonical encoding, byte for byte: a change here changes every digest and signature."""

import hashlib

import pytest

from secagg import labels
from secagg.digests import Canonical
from secagg.errors import UsageError


def test_each_kind_of_field_byte_for_byte() -> None:
    encoded = Canonical(b"label").text("é").integer(-2).integer(1 << 63).real(1.5).data(b"\x07").flag(True).encoded()
    assert encoded == (
        b"label\x00"
        b"t\x02\x00\x00\x00\x00\x00\x00\x00\xc3\xa9"
        b"i\x08\x00\x00\x00\x00\x00\x00\x00\xfe\xff\xff\xff\xff\xff\xff\xff"
        b"u\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80"
        b"r\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf8\x3f"
        b"d\x01\x00\x00\x00\x00\x00\x00\x00\x07"
        b"f\x01\x00\x00\x00\x00\x00\x00\x00\x01"
    )


def test_a_list_byte_for_byte() -> None:
    encoded = Canonical(b"label").items([b"a", b""], Canonical.data).encoded()
    first = b"\x0a\x00\x00\x00\x00\x00\x00\x00d\x01\x00\x00\x00\x00\x00\x00\x00a"
    second = b"\x09\x00\x00\x00\x00\x00\x00\x00d\x00\x00\x00\x00\x00\x00\x00\x00"
    assert encoded == b"label\x00l\x23\x00\x00\x00\x00\x00\x00\x00" + first + second


def test_the_digest_is_sha256_of_the_encoding() -> None:
    canonical = Canonical(labels.ROSTER_DIGEST).text("alice")
    assert canonical.sha256() == hashlib.sha256(canonical.encoded()).digest()
    assert canonical.sha256() != Canonical(labels.JOIN).text("alice").sha256()


def test_minus_zero_is_zero() -> None:
    assert Canonical(b"label").real(-0.0).encoded() == Canonical(b"label").real(0.0).encoded()


@pytest.mark.parametrize("number", [1 << 64, -(1 << 63) - 1])
def test_integers_beyond_64_bits_are_refused(number: int) -> None:
    with pytest.raises(UsageError, match="64 bits"):
        Canonical(b"label").integer(number)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_refused(number: float) -> None:
    with pytest.raises(UsageError, match="canonical form"):
        Canonical(b"label").real(number)


def test_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(UsageError, match="surrogates"):
        Canonical(b"label").text("\ud800")


def test_a_label_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(UsageError, match="label"):
        Canonical(b"la\x00bel")
