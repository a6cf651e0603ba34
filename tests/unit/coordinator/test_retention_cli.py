"""``secagg retention`` as an operator and an auditor type it, and what ``secagg round`` says of a purged round."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from coordinator.config import load_coordinator_settings
from coordinator.contracts import PurgeReceipt
from coordinator.retention_cli import app
from coordinator.store.blobs import DirectoryBlobStore
from coordinator.store.rounds import SqlRoundStore
from secagg import codec
from secagg.cli.statuses import PURGED, round_json, round_line, round_table, rounds_table
from secagg.errors import ConfigError
from secagg.ids import JobId, RoundNumber
from secagg.messages.retention import PurgedRound
from secagg.messages.round import Phase, RoundStatus
from tests.job_material import FIRST, JOB, a_job, a_plan, a_status
from tests.pki_material import ALICE, AUDITOR, COORDINATOR, Deployment, deployment
from tests.retention_material import CLIENTS, MEAN, keep, signed_record


@dataclass
class House:
    """A coordinator's configuration and data, with one old round and one that ended just now."""

    directory: Path
    made: Deployment
    store: SqlRoundStore
    blobs: DirectoryBlobStore

    def run(self, *words: str, config: Path | None = None) -> tuple[int, str, str]:
        named = [] if words[0] == "verify" else ["--config", str(config or self.directory / "coordinator.toml")]
        ended = CliRunner(env={"COLUMNS": "250"}).invoke(app, [*words, *named])
        return ended.exit_code, ended.stdout, ended.stderr

    def rule(self, days: int) -> None:
        self.made.identity(COORDINATOR)
        (self.directory / "coordinator.toml").write_text(
            f'identity = "{self.made.pki.path_of(COORDINATOR)}"\ndata_dir = "data"\nretention.record_days = {days}\n'
        )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = deployment(tmp_path / "pki")
    (tmp_path / "data").mkdir()
    store = SqlRoundStore(f"sqlite:///{tmp_path / 'data' / 'coordinator.db'}")
    store.create_job(a_job(), 1.0)
    blobs = DirectoryBlobStore(tmp_path / "data" / "blobs")
    house = House(directory=tmp_path, made=made, store=store, blobs=blobs)
    house.rule(365)
    old = signed_record(made, 1)
    blobs.write(str(old.mean_blob), [MEAN])
    keep(store, old)
    keep(store, signed_record(made, 2, Phase.ABORTED, ended_at=datetime.now(UTC).timestamp() - 3600))
    yield house
    store.close()


def purged(house: House) -> list[bool]:
    return [one.status.purged for one in house.store.rounds(JOB, 0, 10)]


def test_what_is_due_is_purged_and_told(house: House) -> None:
    code, out, err = house.run("run")
    assert (code, err) == (0, "")
    assert "1 rounds purged." in out
    assert "published" in out
    assert purged(house) == [True, False]
    assert house.blobs.names("") == []
    assert house.run("run") == (0, "0 rounds purged.\n", "")


def test_a_dry_run_tells_and_deletes_nothing(house: House) -> None:
    code, out, err = house.run("run", "--dry-run", "--json")
    assert (code, err) == (0, "")
    [said] = json.loads(out)
    assert (said["job"], said["round"], said["published"], said["contributions"]) == (JOB, 1, True, 3)
    assert said["plan_digest"] == a_plan().digest.hex()
    assert "1 rounds would be purged." in house.run("run", "--dry-run")[1]
    assert purged(house) == [False, False]
    assert house.blobs.names("") != []
    assert house.store.receipts() == []


def test_what_the_rule_keeps_takes_force(house: House) -> None:
    code, _, err = house.run("run", "--older-than", "364")
    assert code == 1
    assert "keeps records 365 days" in err
    assert "--force" in err
    assert purged(house) == [False, False]
    assert "0 rounds" in house.run("run", "--older-than", "36000")[1]
    assert house.run("run", "--older-than", "0", "--force")[0] == 0
    assert purged(house) == [True, True]
    assert {json.loads(house.run("show", "--json")[1])[place]["record_days"] for place in (0, 1)} == {0}


def test_a_rule_of_0_is_overruled_by_force_alone(house: House) -> None:
    house.rule(0)
    for words in (["run"], ["run", "--older-than", "36000"]):
        code, _, err = house.run(*words)
        assert code == 1
        assert "for ever" in err
    assert house.run("run", "--older-than", "365", "--force")[0] == 0
    assert purged(house) == [True, False]


def test_a_round_that_cannot_be_purged_is_told_and_fails_the_command(house: House) -> None:
    with house.store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE contributions SET state = 'nonsense' WHERE round = 1")
    code, out, err = house.run("run", "--older-than", "0", "--force")
    assert code == 1
    assert "1 rounds could not be purged: round 1 of job mnist" in err
    assert "1 rounds purged." in out
    with house.store._database.reading() as connection:
        assert connection.exec_driver_sql("SELECT purged_at IS NULL FROM rounds ORDER BY round").all() == [(1,), (0,)]


def test_receipts_are_listed_with_who_signed_them(house: House) -> None:
    assert "no such receipt" in house.run("show")[1]
    house.run("run")
    code, out, err = house.run("show", "--job", JOB)
    assert (code, err) == (0, "")
    assert f"signed by {COORDINATOR}" in out
    assert "365 days" in out
    whole = house.run("show", "--round", "1")[1]
    assert a_plan().digest.hex() in whole
    assert [name for name in CLIENTS if name in whole] == []
    code, _, err = house.run("show", "--job", "nobody")
    assert code == 1
    assert "there is no job 'nobody'" in err


def test_a_receipt_of_somebody_else_fails_the_list_and_says_why(house: House) -> None:
    house.run("run")
    [sound] = house.store.receipts()
    said = codec.unverified(codec.signed_from_bytes(sound.content), PurgedRound)
    forged = codec.signed_to_bytes(codec.sign(said, house.made.identity(ALICE).signer))
    with house.store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE receipts SET content = ?", (forged,))
    code, out, err = house.run("show")
    assert code == 1
    assert "does not hold: the message was signed by client/alice" in out
    assert "1 of 1 receipts do not hold" in err
    assert json.loads(house.run("show", "--json")[1])[0]["holds"] is False


def test_an_auditor_verifies_at_home_with_the_ca_alone(house: House, tmp_path: Path) -> None:
    house.run("run")
    receipts = tmp_path / "receipts.json"
    receipts.write_text(house.run("show", "--json")[1])
    house.made.identity(AUDITOR)
    home = tmp_path / "home"
    home.mkdir()
    for name in ("ca.pem", "crl.pem"):
        (home / name).write_bytes((house.made.pki.path_of(AUDITOR) / name).read_bytes())
    code, out, err = house.run("verify", str(receipts), "--identity", str(home))
    assert (code, err) == (0, "")
    assert f"signed by {COORDINATOR}" in out
    foreign = deployment(tmp_path / "foreign")
    foreign.identity(AUDITOR)
    code, _, err = house.run("verify", str(receipts), "--identity", str(foreign.pki.path_of(AUDITOR)))
    assert code == 1
    assert "1 of 1 receipts do not hold" in err


def test_a_wrong_path_makes_no_database(house: House, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(f'identity = "{house.made.pki.path_of(COORDINATOR)}"\ndata_dir = "elsewhere"\n')
    for word in ("run", "show"):
        code, _, err = house.run(word, config=wrong)
        assert code == 1
        assert "there is no database" in err
    assert not (tmp_path / "elsewhere").exists()


def test_a_client_signs_no_receipts(house: House, tmp_path: Path) -> None:
    house.made.identity(ALICE)
    other = tmp_path / "other.toml"
    other.write_text(f'identity = "{house.made.pki.path_of(ALICE)}"\ndata_dir = "data"\n')
    code, _, err = house.run("run", config=other)
    assert code == 1
    assert "not for a coordinator" in err
    assert purged(house) == [False, False]


# Configuration


def test_the_rule_is_a_year_and_a_week_unless_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.toml"
    path.write_text('identity = "me"\ndata_dir = "data"\n')
    rule = load_coordinator_settings(path).retention
    assert (rule.record_days, rule.request_days) == (365, 7)
    path.write_text('identity = "me"\ndata_dir = "data"\n[retention]\nrecord_days = 0\n')
    assert load_coordinator_settings(path).retention.record_days == 0


@pytest.mark.parametrize("line", ["record_days = -1", "record_days = 1.5", "request_days = 0", "days = 3"])
def test_a_rule_that_does_not_fit_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "coordinator.toml"
    path.write_text(f'identity = "me"\ndata_dir = "data"\n[retention]\n{line}\n')
    with pytest.raises(ConfigError, match=f"retention.{line.split(maxsplit=1)[0]}"):
        load_coordinator_settings(path)


# What `secagg round` says


def test_a_purged_round_is_shown_as_one(house: House) -> None:
    house.run("run")
    status = house.store.round(JOB, FIRST).status
    one, listed = (printed(table) for table in (round_table(status), rounds_table([status])))
    assert PURGED in one
    assert "joined" not in one
    assert PURGED[:60] in listed
    assert "0/0" not in listed
    assert round_line(status) == f"round 1 published: {PURGED}"
    assert round_json(status) == {
        "job": JOB,
        "round": 1,
        "phase": "published",
        "phase_started": {"keying": 1.5, "open": 2.25, "published": 9.0},
        "purged": True,
    }


def printed(table: Table) -> str:
    out = StringIO()
    Console(file=out, width=250).print(table)
    return out.getvalue()


@pytest.mark.parametrize(
    "status",
    [
        a_status(),
        a_status(Phase.ABORTED, reason="too few"),
        a_status(Phase.ABORTED, plan=None, reason="no key", joined=0),
        a_status(Phase.OPEN, plan=None),
        RoundStatus(job=JobId("j"), round=RoundNumber(1), phase=Phase.KEYING),
    ],
)
def test_no_other_round_counts_as_purged(status: RoundStatus) -> None:
    assert not status.purged
    assert "contributors" in round_json(status)
    assert PURGED not in round_line(status)


def test_a_receipt_in_the_row_of_another_round_does_not_hold(house: House) -> None:
    house.run("run", "--older-than", "0", "--force")
    first, second = house.store.receipts()
    assert isinstance(first, PurgeReceipt)
    with house.store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE receipts SET content = ? WHERE round = 1", (second.content,))
    code, out, _ = house.run("show")
    assert code == 1
    assert "it is of round 2 of job mnist" in out
