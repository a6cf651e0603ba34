"""What a client knows in each phase of a round: ids, digests and its own small messages, never a vector."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from secagg.identity import Party
from secagg.ids import ClientId, Digest, JobId
from secagg.messages.round import Join, Result, Upload
from secagg.plan import RoundPlan
from secagg.policy import ClientPolicy


class ClientPhase(Enum):
    """How far a client is with one update; the last two are its ends. PLANNED to AWAITING_SUM are of masking rounds."""

    OFFERED = "offered"
    KEY_CHECKED = "key-checked"
    JOINED = "joined"
    UPLOADING = "uploading"
    WAITING = "waiting"
    PLANNED = "planned"
    KEYS_SHOWN = "keys-shown"
    SHARING = "sharing"
    MASKING = "masking"
    VECTOR_SENT = "vector-sent"
    VECTOR_COUNTED = "vector-counted"
    CONFIRMING = "confirming"
    REVEALED = "revealed"
    AWAITING_SUM = "awaiting-sum"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Offered:
    """An update is to be submitted to the job's first round after ``after_round``; no round has it."""

    phase: ClassVar = ClientPhase.OFFERED
    client: ClientId
    coordinator: Party
    policy: ClientPolicy
    job: JobId
    after_round: int


@dataclass(frozen=True, kw_only=True)
class KeyChecked(Offered):
    """Plan and key are as the policy wants them."""

    phase: ClassVar = ClientPhase.KEY_CHECKED
    plan: RoundPlan


@dataclass(frozen=True, kw_only=True)
class Joined(KeyChecked):
    """The commitment is out; it binds the client to its ciphertext, and says nothing about it."""

    phase: ClassVar = ClientPhase.JOINED
    nonce: bytes = field(repr=False)
    root_c0: Digest
    root_c1: Digest
    join: Join


@dataclass(frozen=True, kw_only=True)
class Uploading(Joined):
    """The roster holds the client and enough others; from now on the update is submitted."""

    phase: ClassVar = ClientPhase.UPLOADING
    roster: tuple[ClientId, ...]
    upload: Upload


@dataclass(frozen=True, kw_only=True)
class Waiting(Uploading):
    """The coordinator counts the upload."""

    phase: ClassVar = ClientPhase.WAITING


@dataclass(frozen=True, kw_only=True)
class Done:
    """The result is verified."""

    phase: ClassVar = ClientPhase.DONE
    plan: RoundPlan
    result: Result


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The round was aborted with the client in it."""

    phase: ClassVar = ClientPhase.FAILED
    reason: str


ClientState = Offered | KeyChecked | Joined | Uploading | Waiting | Done | Failed
