"""Receipts of purged rounds: what they say, and whom they convince (docs/protocol.md, section 12)."""

import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.contracts import HolderRecord, PurgeReceipt, RoundRecord, RoundStore
from coordinator.receipts import read_receipt, receipts_from_json, receipts_json
from coordinator.retention import Purger, statement_of
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.rounds import SqlRoundStore
from secagg import codec, labels
from secagg.errors import ConfigError, MessageError
from secagg.ids import JobId, RoundNumber
from secagg.messages.retention import PurgedRound
from secagg.messages.round import Phase
from secagg.wire.v1 import retention_pb2
from tests.job_material import FIRST, HOLDERS, JOB, a_job, a_plan, an_audit
from tests.pki_material import ALICE, COORDINATOR, NOW, Deployment, deployment
from tests.retention_material import (
    CLIENTS,
    ENDED_AT,
    MEAN,
    ROSTER,
    keep,
    signed_record,
    with_reason,
)

YEAR = 365
PURGED_AT = NOW.timestamp()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return deployment(tmp_path_factory.mktemp("pki"), at=NOW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlRoundStore]:
    (tmp_path / "data").mkdir()
    opened = SqlRoundStore(f"sqlite:///{tmp_path / 'data' / 'coordinator.db'}")
    opened.create_job(a_job(), 1.0)
    yield opened
    opened.close()


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobStore:
    return DirectoryBlobStore(tmp_path / "data" / "blobs")


@pytest.fixture
def purger(store: RoundStore, blobs: DirectoryBlobStore, made: Deployment) -> Purger:
    return Purger(store=store, blobs=blobs, signer=made.identity(COORDINATOR).signer, clock=lambda: PURGED_AT)


def purged(purger: Purger) -> list[PurgedRound]:
    return list(purger.purged_rounds(YEAR, lambda job, round, error: pytest.fail(f"{job} {round}: {error}")))


# What the receipt says


def test_a_receipt_holds_the_digests_that_parties_keep(
    store: RoundStore, blobs: DirectoryBlobStore, purger: Purger, made: Deployment
) -> None:
    record = signed_record(made)
    blobs.write(str(record.mean_blob), [MEAN])
    keep(store, record)
    [said] = purged(purger)
    assert (said.job, said.round, said.published) == (JOB, 1, True)
    assert (said.ended_at, said.purged_at, said.record_days) == (ENDED_AT, PURGED_AT, YEAR)
    assert said.plan_digest == a_plan().digest
    assert said.roster_digest == ROSTER
    assert record.result is not None
    assert said.result_digest == sha256(codec.signed_from_bytes(record.result).payload).digest()
    assert said.mean_digest == sha256(MEAN).digest()
    assert (said.contributions, said.holders, said.audit_lines) == (3, 0, 3)
    [receipt] = store.receipts(JOB)
    trust = made.identity(COORDINATOR).trust
    read = read_receipt(receipt.content, trust=trust, stored=receipt)
    assert (read.purged, read.coordinator, read.cause) == (said, str(COORDINATOR), "")


def test_a_receipt_names_no_client_and_no_reason(store: RoundStore, purger: Purger, made: Deployment) -> None:
    keep(store, signed_record(made, phase=Phase.ABORTED))
    assert len(purged(purger)) == 1
    [receipt] = store.receipts()
    assert [name for name in CLIENTS if name.encode() in receipt.content] == []
    assert b"nothing came of" not in receipt.content


def test_a_round_that_had_no_plan_has_no_digests_of_one(made: Deployment) -> None:
    bare = signed_record(made, phase=Phase.ABORTED)
    bare = replace(bare, status=replace(bare.status, plan=None), contributions=())
    said = statement_of(bare, [], days=YEAR, at=PURGED_AT)
    assert (said.plan_digest, said.roster_digest, said.result_digest, said.mean_digest) == (b"", b"", b"", b"")
    signed = codec.sign(said, made.identity(COORDINATOR).signer)
    assert codec.authenticate(signed, PurgedRound, trust=made.identity(COORDINATOR).trust, at=NOW).message == said


def test_a_round_without_result_has_the_roster_that_its_uploads_signed(made: Deployment) -> None:
    said = statement_of(signed_record(made, phase=Phase.ABORTED), [], days=YEAR, at=PURGED_AT)
    assert (said.roster_digest, said.result_digest, said.mean_digest) == (ROSTER, b"", b"")


def test_what_was_damaged_is_deleted_all_the_same(store: RoundStore, purger: Purger, made: Deployment) -> None:
    damaged = signed_record(made)
    uploads = tuple(replace(one, upload=b"\xff") for one in damaged.contributions)
    keep(store, replace(damaged, result=b"\xff", contributions=uploads))
    assert len(purged(purger)) == 1
    assert store.round(JOB, FIRST).contributions == ()


def _first(record: RoundRecord, **changes: object) -> RoundRecord:
    first, *others = record.contributions
    return replace(record, contributions=(replace(first, **changes), *others))  # type: ignore[arg-type]


CHANGES: dict[str, Callable[[RoundRecord], RoundRecord]] = {
    "client": lambda record: _first(record, client="another"),
    "join": lambda record: _first(record, join=b"another"),
    "upload": lambda record: _first(record, upload=None),
    "confirmation": lambda record: _first(record, confirmation=b"another"),
    "reason": lambda record: with_reason(record, "another"),
    "one fewer": lambda record: replace(record, contributions=record.contributions[1:]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_content_of_the_clients_part_has_another_digest(made: Deployment, what: str) -> None:
    record = signed_record(made)
    say = partial(statement_of, trail=[], days=YEAR, at=PURGED_AT)
    digests = {say(one).contributions_digest for one in (record, CHANGES[what](record))}
    assert len(digests) == 2


def test_another_content_of_the_other_parts_has_another_digest(made: Deployment) -> None:
    record = signed_record(made)
    signed = replace(record, holders=(HolderRecord(holder=HOLDERS[0], approval=b"approval"),))
    stated = replace(record, holders=(HolderRecord(holder=HOLDERS[0], statement=b"approval"),))
    say = partial(statement_of, days=YEAR, at=PURGED_AT)
    assert len({say(one, []).holders_digest for one in (record, signed, stated)}) == 3
    lines = [an_audit(client="a"), an_audit(client="b"), an_audit("client-left", client="a")]
    trails = [[], [lines[0]], [lines[1]], [lines[2]], [replace(lines[0], at=7.0)], lines[:2], lines[1::-1]]
    assert len({say(record, trail).audit_digest for trail in trails}) == len(trails)


# Whom it convinces


@pytest.fixture(scope="module")
def sound(made: Deployment) -> PurgedRound:
    return statement_of(signed_record(made), [an_audit()], days=YEAR, at=PURGED_AT)


def _other(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, bytes):
        return b"\x00" * 32
    return f"{value}x" if isinstance(value, str) else value + 1  # type: ignore[operator]


def test_a_receipt_that_was_altered_does_not_hold(made: Deployment, sound: PurgedRound) -> None:
    own = made.identity(COORDINATOR)
    signed = codec.sign(sound, own.signer)
    for field in fields(PurgedRound):
        forged = replace(
            signed,
            payload=codec.sign(replace(sound, **{field.name: _other(getattr(sound, field.name))}), own.signer).payload,
        )
        assert forged.payload != signed.payload
        read = read_receipt(codec.signed_to_bytes(forged), trust=own.trust)
        assert read.purged is None, field.name
        assert "signature" in read.cause


def test_nobody_else_signs_a_receipt(made: Deployment, sound: PurgedRound, tmp_path: Path) -> None:
    trust = made.identity(COORDINATOR).trust
    foreign = deployment(tmp_path / "foreign", at=NOW).identity(COORDINATOR)
    for signer in (made.identity(ALICE).signer, foreign.signer):
        read = read_receipt(codec.signed_to_bytes(codec.sign(sound, signer)), trust=trust)
        assert read.purged is None
        assert read.cause


def test_a_receipt_stands_for_no_other_round(made: Deployment, sound: PurgedRound) -> None:
    own = made.identity(COORDINATOR)
    content = codec.signed_to_bytes(codec.sign(sound, own.signer))
    for job, round in ((JobId("another"), FIRST), (JOB, RoundNumber(2))):
        stored = PurgeReceipt(job=job, round=round, at=PURGED_AT, content=content)
        assert read_receipt(content, trust=own.trust, stored=stored).purged is None


def test_a_receipt_holds_after_its_signers_certificate_has_ended(made: Deployment, sound: PurgedRound) -> None:
    # Nothing is asked of today: the certificate counted when it signed.
    own = made.identity(COORDINATOR)
    early = codec.sign(replace(sound, purged_at=datetime(2020, 1, 1, tzinfo=UTC).timestamp()), own.signer)
    assert read_receipt(codec.signed_to_bytes(codec.sign(sound, own.signer)), trust=own.trust).purged == sound
    assert "not valid before" in read_receipt(codec.signed_to_bytes(early), trust=own.trust).cause


@pytest.mark.parametrize("at", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_time_that_is_no_date_is_refused(made: Deployment, sound: PurgedRound, at: float) -> None:
    own = made.identity(COORDINATOR)
    payload = codec.sign(sound, own.signer).payload
    wire = retention_pb2.PurgedRound.FromString(payload)
    wire.ended_at = at
    signed = own.signer.sign(labels.PURGE_RECEIPT, wire.SerializeToString())
    with pytest.raises(MessageError):
        codec.authenticate(signed, PurgedRound, trust=own.trust, at=NOW)
    assert read_receipt(codec.signed_to_bytes(signed), trust=own.trust).purged is None


@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_receipt_that_does_not_hold(data: bytes, trusted: Deployment) -> None:
    assert read_receipt(data, trust=trusted.identity(COORDINATOR).trust).purged is None


@pytest.fixture(scope="module")
def trusted(made: Deployment) -> Deployment:
    return made


@given(payload=st.binary(max_size=300))
def test_any_payload_under_a_sound_signature_is_read_or_refused(payload: bytes, trusted: Deployment) -> None:
    own = trusted.identity(COORDINATOR)
    content = codec.signed_to_bytes(own.signer.sign(labels.PURGE_RECEIPT, payload))
    read = read_receipt(content, trust=own.trust)
    assert (read.purged is None) == bool(read.cause)


def test_receipts_travel_as_json(made: Deployment, sound: PurgedRound, tmp_path: Path) -> None:
    own = made.identity(COORDINATOR)
    content = codec.signed_to_bytes(codec.sign(sound, own.signer))
    path = tmp_path / "receipts.json"
    path.write_text(json.dumps(receipts_json([read_receipt(content, trust=own.trust)])))
    assert receipts_from_json(path) == [content]


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "[{}]", '[{"signed": 1}]', '[{"signed": "é"}]', "null", "[" * 100_000]
)
def test_a_file_without_receipts_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "receipts.json"
    path.write_text(text)
    with pytest.raises(MessageError):
        receipts_from_json(path)
    with pytest.raises(ConfigError, match="nowhere"):
        receipts_from_json(tmp_path / "nowhere")
