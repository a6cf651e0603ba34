"""Names and roles, in text, URI and DNS form."""

import pytest

from secagg.errors import CertificateError, UsageError
from secagg.party import Party, Role, parse_uri
from tests.pki_material import ALICE, NORTH


def test_a_party_in_each_of_its_forms() -> None:
    assert str(ALICE) == "client/alice"
    assert ALICE.uri == "secagg://client/alice"
    assert NORTH.server_name == "north.key-holder.secagg.internal"
    assert [role for role in Role if role.serves] == [Role.COORDINATOR, Role.KEY_HOLDER]


@pytest.mark.parametrize("name", ["a", "0", "a-b", "x" * 63, "a-"])
def test_names_that_are_allowed(name: str) -> None:
    assert parse_uri(Party(role=Role.AUDITOR, name=name).uri).name == name


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a.b", "a/b", "x" * 64, "a\n", "é", "a b"])
def test_names_that_are_not(name: str) -> None:
    with pytest.raises(UsageError, match="name has 1 to 63"):
        Party(role=Role.CLIENT, name=name)
    with pytest.raises(CertificateError):
        parse_uri(f"secagg://client/{name}")


@pytest.mark.parametrize(
    "uri", ["", "client/alice", "secagg:/client/alice", "secagg://client/alice/x", "SECAGG://client/a"]
)
def test_uris_that_name_nobody(uri: str) -> None:
    with pytest.raises(CertificateError):
        parse_uri(uri)
