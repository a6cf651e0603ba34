"""Names and digests that travel through every layer."""

from typing import NewType

ClientId = NewType("ClientId", str)
HolderId = NewType("HolderId", str)
JobId = NewType("JobId", str)
RoundNumber = NewType("RoundNumber", int)
KeyId = NewType("KeyId", bytes)
"""Transcript hash of a key ceremony, 32 bytes."""
Digest = NewType("Digest", bytes)
"""SHA-256 over a canonical encoding, 32 bytes."""

DIGEST_BYTES = 32
NONCE_BYTES = 32
"""Length of every nonce and seed: 256 bits."""
