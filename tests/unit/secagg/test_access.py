"""`caller_of` on what a TLS library might one day show; the rest is in tests/integration/test_pki_tls.py."""

from typing import Any

import pytest

from secagg.errors import CertificateError
from secagg.transport import caller_of
from secagg.trust import TrustRoot
from tests.pki_material import NOW, authority

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
