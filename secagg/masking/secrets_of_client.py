"""Everything secret that a client draws in a round, from one master seed.

A client that restarts with the stored seed has the same keys and draws the same bytes again; the
coordinator never loads this module.
"""

from dataclasses import dataclass
from typing import Self

from secagg.digests import Canonical
from secagg.errors import UsageError
from secagg.ids import ClientId, Digest
from secagg.labels import CLIENT_SECRET
from secagg.masking.agreement import KEY_BYTES, derive_key, public_key, seed_commitment


@dataclass(frozen=True, kw_only=True, slots=True, repr=False, eq=False)
class ClientSecrets:
    """One client's secrets in one round, 32 bytes each; made by `of`.

    Attributes:
        mask_private: X25519 private key of the pairwise masks.
        share_private: X25519 private key under which shares are sealed.
        self_seed: seed of the self mask.
        quantising_key: key of the stream that rounds the values.
        dealing_key: key of the stream that shares `mask_private` and `self_seed`.
        commitment: `agreement.seed_commitment` to `self_seed`; public.
    """

    mask_private: bytes
    share_private: bytes
    self_seed: bytes
    quantising_key: bytes
    dealing_key: bytes
    commitment: bytes

    @classmethod
    def of(cls, master_seed: bytes, *, plan_digest: Digest, client: ClientId) -> Self:
        """Derive all of it from 32 bytes that were drawn for this round. Raises `UsageError` on another length."""
        if len(master_seed) != KEY_BYTES:
            raise UsageError(f"a client's master seed has {KEY_BYTES} bytes, not {len(master_seed)}")

        def secret(use: str) -> bytes:
            return derive_key(master_seed, Canonical(CLIENT_SECRET).data(plan_digest).text(client).text(use))

        self_seed = secret("self-seed")
        return cls(
            mask_private=secret("mask-key"),
            share_private=secret("share-key"),
            self_seed=self_seed,
            quantising_key=secret("quantising"),
            dealing_key=secret("dealing"),
            commitment=seed_commitment(self_seed, plan_digest=plan_digest, client=client),
        )

    @property
    def mask_public(self) -> bytes:
        """X25519 public key, 32 bytes, of `mask_private`."""
        return public_key(self.mask_private)

    @property
    def share_public(self) -> bytes:
        """X25519 public key, 32 bytes, of `share_private`."""
        return public_key(self.share_private)
