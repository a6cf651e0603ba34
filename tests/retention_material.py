"""Rounds with real signatures in a store, and every trace that they leave of their clients, for tests of the retention rule."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from coordinator.contracts import ContributionRecord, ContributionState, RoundRecord, RoundStore, mean_name
from coordinator.store.tables import METADATA
from secagg import codec
from secagg.identity import Party, Role, SignedMessage
from secagg.ids import ClientId, Digest, RoundNumber
from secagg.messages.round import Join, Phase, Result, Upload
from tests.files_on_disk import contents_under
from tests.job_material import JOB, a_move, a_plan, a_status, an_answer, an_audit, an_opening
from tests.pki_material import COORDINATOR, Deployment

CLIENTS = tuple(ClientId(name) for name in ("bilby-bess", "numbat-ned", "quokka-kit"))
MEAN = b"\x07" * 4096
ROSTER = Digest(b"\x05" * 32)
ENDED_AT = 9.0


def of_client(made: Deployment, name: ClientId, message: object) -> bytes:
    signer = made.identity(Party(role=Role.CLIENT, name=name)).signer
    return codec.signed_to_bytes(codec.sign(message, signer))


def a_contribution(made: Deployment, name: ClientId) -> ContributionRecord:
    digest = a_plan().digest
    join = Join(plan_digest=digest, client=name, commitment=b"\x01" * 32)
    upload = Upload(
        plan_digest=digest,
        roster_digest=ROSTER,
        client=name,
        nonce=b"\x02" * 32,
        parameters_digest=Digest(b"\x03" * 32),
        level=0,
        scale=1.0,
        chunks=1,
        root_c0=Digest(b"\x04" * 32),
        root_c1=Digest(b"\x06" * 32),
    )
    return ContributionRecord(
        client=name,
        state=ContributionState.UPLOADED,
        join=of_client(made, name, join),
        upload=of_client(made, name, upload),
        reason=f"{name} was slow",
    )


def a_result() -> Result:
    return Result(
        plan_digest=a_plan().digest,
        roster_digest=ROSTER,
        contributors=CLIENTS,
        total_weight=2.5,
        mean_digest=Digest(sha256(MEAN).digest()),
        mean_bytes=len(MEAN),
    )


def signed_record(
    made: Deployment, round: int = 1, phase: Phase = Phase.PUBLISHED, ended_at: float = ENDED_AT
) -> RoundRecord:
    """Return a round of three clients; one that was aborted has neither result nor mean."""
    published = phase is Phase.PUBLISHED
    reason = "" if published else f"nothing came of {CLIENTS[0]}"
    number = RoundNumber(round)
    result = codec.signed_to_bytes(codec.sign(a_result(), made.identity(COORDINATOR).signer))
    started = {Phase.KEYING: 1.5, Phase.OPEN: 2.25, phase: ended_at}
    return RoundRecord(
        status=a_status(phase, round=number, contributors=CLIENTS, reason=reason, holders=(), phase_started=started),
        key=b"key",
        roster=" ".join(CLIENTS).encode(),
        contributions=tuple(a_contribution(made, name) for name in CLIENTS),
        result=result if published else None,
        mean_blob=mean_name(JOB, number, a_result().mean_digest) if published else None,
    )


def keep(store: RoundStore, record: RoundRecord) -> None:
    """Store a round that ended, as the engine does: opened, ended with its audit lines and an answer, closed."""
    number = record.status.round
    store.open_round(an_opening(round=number))
    audits = tuple(an_audit(round=number, client=name) for name in CLIENTS)
    answer = an_answer(request_id=f"r{number}", caller=f"client/{CLIENTS[0]}")
    store.advance_round(a_move(round=number, record=record, audits=audits, request=answer))
    store.close_round(JOB, number)


def traces_of(record: RoundRecord) -> list[bytes]:
    """Return what must not outlive a record: each client's name, signatures, and certificate, whose subject is within."""
    traces = []
    for one in record.contributions:
        signed = [
            codec.signed_from_bytes(data) for data in (one.join, one.upload, one.confirmation) if data is not None
        ]
        traces += [one.client.encode(), *(found for message in signed for found in _parts(message))]
    return traces


def _parts(message: SignedMessage) -> tuple[bytes, bytes]:
    return message.signature, message.certificate


def in_files(traces: Iterable[bytes], directory: Path) -> list[bytes]:
    """Return the traces that are in any file of a directory, or in the name of one."""
    kept = contents_under(directory)
    contents = [data + str(path.relative_to(directory)).encode() for path, data in kept.items()]
    return [one for one in traces if any(one in content for content in contents)]


def in_rows(traces: Iterable[bytes], connection: Connection) -> list[bytes]:
    """Return the traces that are in any row of any table."""
    rows = [row for table in METADATA.sorted_tables for row in connection.execute(select(table)).all()]
    contents = [value for row in rows for value in _bytes_of(row)]
    return [one for one in traces if any(one in content for content in contents)]


def _bytes_of(row: Iterable[Any]) -> Iterator[bytes]:
    for value in row:
        yield value if isinstance(value, bytes) else str(value).encode()


def with_reason(record: RoundRecord, reason: str) -> RoundRecord:
    first, *others = record.contributions
    return replace(record, contributions=(replace(first, reason=reason), *others))
