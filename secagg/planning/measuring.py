"""`secagg plan calibrate`: every piece of work of both protocols, measured in some ten seconds."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.serialization import Encoding

from he.packing import Layout, pack, unpack_mean
from he.parameters import PRESET_NAMES
from secagg import codec, trust
from secagg.certificates import make_authority, make_certificate, new_private_key
from secagg.errors import StorageError
from secagg.identity import Party, Role, Signer, TrustRoot
from secagg.ids import ClientId, Digest
from secagg.messages.round import Join
from secagg.planning.calibration import Calibration, CkksRates, SharedRates, now, this_machine, versions
from secagg.planning.measuring_ckks import measure_ckks, with_packings
from secagg.planning.measuring_masking import measure_masking
from secagg.planning.sizes import PART_BYTES
from secagg.planning.stopwatch import line_through, seconds_of

VALUES: Final = 1 << 17
DISK_PARTS: Final = 16


def measure(
    directory: Path, tell: Callable[[str], None] = lambda _: None, *, presets: Sequence[str] = PRESET_NAMES
) -> Calibration:
    """Measure all of it on this machine, or of ``ckks`` some presets only.

    Args:
        directory: on the disk that is measured; what is written there is deleted again.
        tell: hears what comes next.
        presets: of ``ckks``.

    Raises:
        StorageError: nothing can be written there.
    """
    tell("packing, signatures and disk")
    shared = _shared(directory)
    tell("masking")
    masking = measure_masking()
    rates: dict[str, CkksRates] = {}
    for name, packing in with_packings(presets):
        tell(f"{name} {packing}")
        rates[f"{name} {packing}"] = measure_ckks(name, packing)
    return Calibration(
        taken_at=now(), machine=this_machine(), versions=versions(), shared=shared, masking=masking, ckks=rates
    )


def _shared(directory: Path) -> SharedRates:
    update = {"w": np.random.default_rng(1).uniform(-1, 1, VALUES).astype(np.float32)}
    layout = Layout.of(update)
    sign, authenticate = _signatures()
    sync, write = _disk(directory)
    packing = seconds_of(lambda: pack(update, 1.0, layout=layout, clip=1.0, max_weight=1.0), parts=VALUES)
    return SharedRates(
        pack=packing, publish=_publishing(layout), sign=sign, authenticate=authenticate, sync=sync, write=write
    )


def _publishing(layout: Layout) -> float:
    """Seconds of one value from a sum to a mean's bytes, as the coordinator does it: to find the digest, and to write."""
    total = np.full(layout.values, 0.5)

    def publish() -> None:
        for _ in range(2):
            mean, _ = unpack_mean(total, layout, 1.0, 1.0)
            data = mean["w"].tobytes()
        hashlib.sha256(data)

    return seconds_of(publish, parts=VALUES)


def _disk(directory: Path) -> tuple[float, float]:
    """Seconds of a file put on disk, and of each byte of it, written in parts as uploads are."""
    part = bytes(PART_BYTES)

    def write(parts: int) -> None:
        with tempfile.TemporaryFile(dir=directory) as file:
            for _ in range(parts):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())

    try:
        short, long = (seconds_of(partial(write, parts), elapsed=True) for parts in (1, DISK_PARTS))
    except OSError as error:
        raise StorageError(f"nothing can be written to {directory}: {error.strerror}") from error
    return line_through((PART_BYTES, short), (DISK_PARTS * PART_BYTES, long))


def _signatures() -> tuple[float, float]:
    """Seconds of one message signed, and of one authenticated whose certificate was never seen, as almost all in a round are."""
    at, key = datetime.now(UTC), new_private_key()
    authority = make_authority(common_name="calibration", at=at, days=2)
    party = Party(role=Role.CLIENT, name="alice")
    certificate = make_certificate(authority, party, key.public_key(), at=at, days=1)
    signer = Signer(private_key=key, certificate=certificate.public_bytes(Encoding.DER))
    root = TrustRoot((authority.certificate,))
    join = Join(plan_digest=Digest(bytes(32)), client=ClientId("alice"), commitment=bytes(32))
    signed = codec.sign(join, signer)

    def authenticate_at_first_sight() -> None:
        trust._vouched.cache_clear()  # noqa: SLF001 - nobody but a measurement wants it forgotten
        codec.authenticate(signed, Join, trust=root, at=at)

    return seconds_of(lambda: codec.sign(join, signer)), seconds_of(authenticate_at_first_sight)
