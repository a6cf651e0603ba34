"""Who someone is: a role and a name, and how a certificate states them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography import x509

from secagg.errors import CertificateError, UsageError

MAX_NAME_CHARACTERS: Final = 63
DNS_SUFFIX: Final = ".secagg.internal"
_URI_PREFIX: Final = "secagg://"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Role(StrEnum):
    """What a party does; each RPC names the roles that may call it."""

    CLIENT = "client"
    COORDINATOR = "coordinator"
    KEY_HOLDER = "key-holder"
    OPERATOR = "operator"
    AUDITOR = "auditor"

    @property
    def serves(self) -> bool:
        """Whether parties of this role listen for calls, and so need a server certificate."""
        return self in SERVER_ROLES


SERVER_ROLES: Final = frozenset({Role.COORDINATOR, Role.KEY_HOLDER})


def check_name(name: str) -> str:
    """Return the name, or raise `UsageError` unless it is `[a-z0-9][a-z0-9-]{0,62}`."""
    if _NAME.fullmatch(name) is None:
        raise UsageError("a party's name has 1 to 63 characters a-z, 0-9 and -, and does not begin with -")
    return name


@dataclass(frozen=True, kw_only=True)
class Party:
    """One party of a deployment.

    Attributes:
        role: what it does.
        name: its name, unique within the role; `check_name` tells the syntax.

    Raises:
        UsageError: the name breaks the syntax.
    """

    role: Role
    name: str

    def __post_init__(self) -> None:
        """Refuse a name that could not stand in a certificate."""
        check_name(self.name)

    @property
    def uri(self) -> str:
        """The URI that stands in its certificate: `secagg://client/alice`."""
        return f"{_URI_PREFIX}{self.role}/{self.name}"

    @property
    def server_name(self) -> str:
        """The DNS name that callers check: `north.key-holder.secagg.internal`."""
        return f"{self.name}.{self.role}{DNS_SUFFIX}"

    def __str__(self) -> str:
        """Show `client/alice`."""
        return f"{self.role}/{self.name}"


def is_reserved(host: str) -> bool:
    """Say whether a host name can pass for a party's server name: TLS compares without regard to case and a last dot."""
    return host.lower().rstrip(".").endswith(DNS_SUFFIX)


def parse_uri(uri: str) -> Party:
    """Read `secagg://ROLE/NAME` back; raise `CertificateError` on anything else."""
    role, separator, name = uri.removeprefix(_URI_PREFIX).partition("/")
    if not uri.startswith(_URI_PREFIX) or not separator:
        raise CertificateError("the certificate's URI is not of the form secagg://ROLE/NAME")
    try:
        return Party(role=Role(role), name=name)
    except (ValueError, UsageError):
        raise CertificateError("the certificate names an unknown role or a name that breaks the syntax") from None


def party_of(certificate: x509.Certificate) -> Party:
    """Return the party that the certificate's one URI names; it checks nothing else.

    Raises:
        CertificateError: there is no such URI, more than one, or it cannot be read.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        uris = []
    if len(uris) != 1:
        raise CertificateError(f"the certificate holds {len(uris)} URI names, and exactly one must say who it is for")
    return parse_uri(uris[0])
