"""`caller_of` on what a TLS library might one day show; the rest is in tests/integration/test_pki_tls.py."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from secagg.certificates import make_certificate, new_private_key
from secagg.errors import CertificateError
from secagg.transport import caller_of
from secagg.trust import TrustRoot
from tests.pki_material import ALICE, NOW, authority

TRUST = TrustRoot((authority().certificate,))


class _Shown:
    """The one part of a context that `caller_of` reads."""

    def __init__(self, *certificates: bytes) -> None:
        self._certificates = certificates

    def auth_context(self) -> dict[str, Any]:
        return {"x509_pem_cert": self._certificates}


@pytest.mark.parametrize(
    ("shown", "reason"),
    [((), "no certificate"), ((b"a", b"b"), "no certificate"), ((b"nonsense",), "cannot be read")],
)
def test_what_is_not_one_certificate_names_nobody(shown: tuple[bytes, ...], reason: str) -> None:
    context: Any = _Shown(*shown)
    with pytest.raises(CertificateError, match=reason):
        caller_of(context, TRUST, at=NOW)


def test_a_caller_is_looked_at_each_time_though_its_certificate_is_read_once() -> None:
    """What is remembered is the other form of the same bytes: dates count at every call, and so does which CA is trusted."""
    ca = authority()
    pem = make_certificate(ca, ALICE, new_private_key().public_key(), at=NOW, days=5).public_bytes(Encoding.PEM)
    context: Any = _Shown(pem)
    trust = TrustRoot((ca.certificate,))
    for _ in range(2):
        assert caller_of(context, trust, at=NOW) == ALICE
        with pytest.raises(CertificateError, match="expired"):
            caller_of(context, trust, at=NOW + timedelta(days=6))
        with pytest.raises(CertificateError, match="not issued by the CA"):
            caller_of(context, TRUST, at=NOW)
