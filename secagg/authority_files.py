"""A CA's certificate and private key as PEM files, and keys and certificates as PEM in general."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from secagg.certificates import Authority
from secagg.errors import ConfigError

OTHERS_MAY_USE_BITS: Final = 0o077


def read_authority(certificate: Path, key: Path, passphrase: bytes | None) -> Authority:
    """Read a CA from its two files.

    Raises:
        ConfigError: others may read the key, the passphrase does not open it, or it is another CA's.
    """
    _check_mode(key)
    try:
        parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
        private_key = load_pem_private_key(key.read_bytes(), passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        advice = "Give the passphrase the CA was made with, by --passphrase-file; none if it was made without"
        raise ConfigError(f"the CA's key in {key.parent} does not open", next_step=advice) from None
    if not isinstance(private_key, ec.EllipticCurvePrivateKey) or private_key.public_key() != parsed.public_key():
        raise ConfigError(f"the CA's key in {key.parent} does not belong to its certificate")
    return Authority(certificate=parsed, private_key=private_key)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return the certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None) -> bytes:
    """Return the key as PKCS #8 PEM, encrypted when there is a passphrase."""
    encryption: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _check_mode(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if mode & OTHERS_MAY_USE_BITS:
        raise ConfigError(f"others on this machine may read {path}", next_step=f"Run `chmod 600 {path}`")
