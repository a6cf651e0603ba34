"""What every round of the driver works with."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from coordinator.contracts import BlobStore, Clock, RoundStore
from coordinator.rounds.calls import KeyHolderCalls
from coordinator.rounds.metrics import RoundMetrics
from coordinator.spool import UploadSpool
from coordinator.vectors import VectorSpool
from secagg.ids import HolderId
from secagg.transport import TlsIdentity


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Stores, key holders, clock and metrics. ``compute``: where hashing and arithmetic go, off the event loop."""

    store: RoundStore
    blobs: BlobStore
    spool: UploadSpool
    identity: TlsIdentity
    holders: Mapping[HolderId, KeyHolderCalls]
    clock: Clock
    metrics: RoundMetrics
    compute: Executor

    @property
    def vectors(self) -> VectorSpool:
        """The masked vectors; they share the spool's bound with the ciphertexts."""
        return VectorSpool(self.blobs, self.spool.streams)
