"""Identities in one place: parties, the CA that is trusted, and signed messages."""

from secagg.party import SERVER_ROLES, Party, Role, check_name, parse_uri, party_of
from secagg.signing import SignedMessage, Signer, verify_signed
from secagg.trust import TrustRoot, read_certificate

__all__ = [
    "SERVER_ROLES",
    "Party",
    "Role",
    "SignedMessage",
    "Signer",
    "TrustRoot",
    "check_name",
    "parse_uri",
    "party_of",
    "read_certificate",
    "verify_signed",
]
