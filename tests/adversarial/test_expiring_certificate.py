"""A client whose certificate ends while its round runs does not take the round with it."""

from datetime import timedelta

import pytest

from coordinator.client_service import verify_lifetime
from secagg import codec
from secagg.errors import CertificateError
from secagg.ids import ClientId, Digest
from secagg.messages.round import FrozenRoster, Join
from secagg.signing import Signer
from secagg.trust import TrustRoot
from tests.pki_material import NOW, Crafted, authority

CA = authority()
TRUST = TrustRoot((CA.certificate,))
CRAFTED = Crafted(not_after=NOW + timedelta(minutes=10))
SIGNER = Signer(private_key=CRAFTED.key, certificate=CRAFTED.der(CA))
JOIN = codec.sign(Join(plan_digest=Digest(bytes(32)), client=ClientId("alice"), commitment=bytes(32)), SIGNER)


def test_one_ended_certificate_spoils_the_roster_at_the_holders() -> None:
    """Why a join needs a certificate that outlives the round: an upload need not even follow."""
    join = codec.authenticate(JOIN, Join, trust=TRUST, at=NOW)
    wire = codec.roster_to_wire(FrozenRoster(plan_digest=Digest(bytes(32)), joins=(join,)))
    codec.roster_from_wire(wire, trust=TRUST, at=NOW)
    with pytest.raises(CertificateError, match="expired"):
        codec.roster_from_wire(wire, trust=TRUST, at=NOW + timedelta(minutes=11))


def test_a_join_outlives_its_round() -> None:
    verify_lifetime(JOIN, (NOW + timedelta(minutes=10)).timestamp())
    with pytest.raises(CertificateError, match="before its round may end"):
        verify_lifetime(JOIN, (NOW + timedelta(minutes=10, seconds=1)).timestamp())
