"""Certificates that are bent, or asked of the CA, to pass for another party's."""

import pytest

from secagg.certificates import make_certificate, new_private_key
from secagg.errors import CertificateError, UsageError
from secagg.trust import TrustRoot
from tests.pki_material import COORDINATOR, DIAL, NORTH, NOW, SERVE, Crafted, authority

CA = authority()
TRUST = TrustRoot((CA.certificate,))
DOTTED = NORTH.server_name + "."
_ECDSA_WITH_SHA256 = bytes.fromhex("06082a8648ce3d040302")
_NO_ALGORITHM = bytes.fromhex("06082a8648ce3d04037f")


def test_an_unknown_signature_algorithm_is_refused_as_any_other_certificate() -> None:
    """Anyone may put such bytes beside a signed message: an exception that is not ours would end the reader's round."""
    der = Crafted().der(CA)
    assert der.count(_ECDSA_WITH_SHA256) == 2
    with pytest.raises(CertificateError, match="not issued by the CA"):
        TRUST.verify_certificate(der.replace(_ECDSA_WITH_SHA256, _NO_ALGORITHM), at=NOW)


@pytest.mark.parametrize("host", [DOTTED, DOTTED.upper()])
def test_the_ca_issues_no_reserved_name_with_a_dot_behind_it(host: str) -> None:
    """GRPC drops the dot before it compares, and the name is all that a caller checks of a server."""
    with pytest.raises(UsageError, match="reserved"):
        make_certificate(CA, COORDINATOR, new_private_key().public_key(), at=NOW, days=1, hosts=[host])


@pytest.mark.parametrize("host", [DOTTED, DOTTED.upper()])
def test_a_reserved_name_with_a_dot_behind_it_is_another_partys_name(host: str) -> None:
    crafted = Crafted(uris=(COORDINATOR.uri,), usages=(DIAL, SERVE), hosts=(COORDINATOR.server_name, host))
    with pytest.raises(CertificateError, match="DNS names"):
        TRUST.verify_certificate(crafted.der(CA), at=NOW)
