"""Jobs and rounds as people and scripts see them."""

import io
import json
from dataclasses import fields, replace

import pytest
from rich.console import Console

from secagg.cli import statuses
from secagg.messages.job import JobState, JobStatus
from secagg.messages.round import Phase, RoundStatus
from secagg.plan import CkksJob, MaskingJob, MaskingRound, RoundPlan
from tests.job_material import FIRST, HOLDERS, a_job, a_plan, a_status

MADE = JobStatus(
    spec=a_job(purpose="train \x1b[31mred"),
    state=JobState.RUNNING,
    published_rounds=1,
    aborted_rounds=2,
    created_at=1_700_000_000.0,
)

MASKED = JobStatus(
    spec=a_job(protocol=MaskingJob(), min_contributors=5),
    state=JobState.RUNNING,
    published_rounds=0,
    aborted_rounds=0,
    created_at=1_700_000_000.0,
)


def _shown(value: object) -> str:
    page = io.StringIO()
    Console(file=page, width=200).print(value)
    return page.getvalue()


def test_a_job_in_a_list() -> None:
    text = _shown(statuses.jobs_table([MADE]))
    assert all(part in text for part in ("mnist", "running", "1/1", "200", "3 to 10"))
    assert "\x1b" not in text


def test_everything_of_a_job() -> None:
    text = _shown(statuses.job_table(MADE))
    assert all(part in text for part in ("2023-11-14 22:13:20", "any 3 open", "keying 60 s", "weight [20, 10] float32"))
    assert "coefficients packing" in text


def test_a_job_says_how_much_an_opening_of_it_hides() -> None:
    slots = replace(MADE, spec=a_job(protocol=CkksJob(holders=HOLDERS, packing="complex")))
    usual, less = (statuses.job_json(one)["ckks"]["hidden_bits"] for one in (MADE, slots))
    assert less < 40 <= usual
    for status, bits in ((MADE, usual), (slots, less)):
        assert f"is within 2^-{bits:.1f} of one that tells the sum alone" in _shown(statuses.job_table(status))


def test_a_job_without_end() -> None:
    endless = JobStatus(
        spec=a_job(rounds=0), state=JobState.RUNNING, published_rounds=7, aborted_rounds=0, created_at=0.0
    )
    assert "7/∞" in _shown(statuses.jobs_table([endless]))


def test_a_job_for_a_script() -> None:
    found = json.loads(json.dumps(statuses.job_json(MADE)))
    assert (found["job"], found["state"], found["values"], found["ckks"]["threshold"]) == ("mnist", "running", 200, 3)
    assert found["tensors"] == [{"name": "weight", "shape": [20, 10], "dtype": "float32"}]


def test_a_round_in_a_list_has_a_short_reason() -> None:
    aborted = a_status(Phase.ABORTED, reason="too few " * 100)
    text = _shown(statuses.rounds_table([a_status(), aborted]))
    assert all(part in text for part in ("published", "aborted", "3/4", "5/4", "2.5", "…"))
    assert text.count("too few") <= 10


def test_everything_of_a_round() -> None:
    text = _shown(statuses.round_table(a_status(Phase.ABORTED, reason="too \x1b[31mfew")))
    assert all(part in text for part in ("4 joined, 3 uploaded", "unreachable it did not answer", "alice, bob, carol"))
    assert a_plan().digest.hex() in text
    assert "\x1b" not in text
    assert "Total weight" not in text, "an aborted round has published none"


def test_a_round_for_a_script() -> None:
    found = json.loads(json.dumps(statuses.round_json(a_status())))
    assert (found["phase"], found["total_weight"], found["contributors"]) == (
        "published",
        2.5,
        ["alice", "bob", "carol"],
    )
    assert found["phase_started"]["open"] == 2.25
    assert found["key_id"] == "07" * 32
    assert found["holders"][1] == {"holder": "north", "verdict": "unreachable", "reason": "it did not answer"}


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (Phase.KEYING, "the key holders make a key"),
        (Phase.OPEN, "4/10 clients joined"),
        (Phase.FROZEN, "4 clients are in"),
        (Phase.UPLOADING, "3/4 clients uploaded"),
        (Phase.APPROVING, "4/4 key holders approved"),
        (Phase.DECRYPTING, "5 key holders answered"),
        (Phase.PUBLISHED, "3 contributors, total weight 2.5"),
        (Phase.ABORTED, "because"),
    ],
)
def test_a_line_says_what_is_waited_for(phase: Phase, words: str) -> None:
    assert statuses.round_line(a_status(phase, reason="because")) == f"round 1 {phase.value}: {words}"


def test_before_there_is_a_plan_no_numbers_are_made_up() -> None:
    assert statuses.round_line(a_status(Phase.OPEN, plan=None)) == "round 1 open: 4 clients joined"
    assert statuses.round_json(a_status(plan=None))["key_id"] is None
    assert "Key" in _shown(statuses.round_table(a_status(plan=None)))


def _masked(phase: Phase = Phase.PUBLISHED) -> RoundStatus:
    plan = RoundPlan(spec=MASKED.spec, round=FIRST, protocol=MaskingRound(nonce=b"\x07" * 32))
    return a_status(
        phase, plan=plan, holders=(), joined=9, shared=8, uploaded=7, approvals=6, answers=5, reason="because"
    )


def test_everything_of_a_masking_job() -> None:
    text = _shown(statuses.job_table(MASKED))
    assert "masking, 20 bits a value, at most 5 % corrupt and 10 % dropped clients, error below 0.0001" in text
    assert "open 600 s, sharing 120 s, uploading 600 s, confirming 120 s, unmasking 120 s" in text
    assert "holders" not in text
    assert "keying" not in text


def test_a_masking_job_for_a_script() -> None:
    found = json.loads(json.dumps(statuses.job_json(MASKED)))
    assert found["protocol"] == "masking"
    assert found["masking"] == {
        "value_bits": 20,
        "precision": 1e-4,
        "corrupt_fraction": 0.05,
        "dropout_fraction": 0.1,
        "sum_bits": 24,
    }
    assert "ckks" not in found


def test_the_part_of_a_ckks_job_stands_under_its_name() -> None:
    found = json.loads(json.dumps(statuses.job_json(MADE)))
    assert found["protocol"] == "ckks"
    assert found["ckks"]["holders"] == ["north", "south", "east", "west", "centre"]
    assert set(found["ckks"]) == {one.name for one in fields(CkksJob)} | {"hidden_bits"}
    assert "masking" not in found


def test_everything_of_a_masking_round() -> None:
    text = _shown(statuses.round_table(_masked()))
    assert "9 joined, 8 shared, 7 uploaded" in text
    assert "6 confirmed, 5 revealed" in text
    assert "Key" not in text


def test_a_masking_round_for_a_script_has_no_key_and_no_key_holders() -> None:
    found = json.loads(json.dumps(statuses.round_json(_masked())))
    assert (found["protocol"], found["joined"], found["shared"], found["uploaded"]) == ("masking", 9, 8, 7)
    assert (found["confirmed"], found["revealed"]) == (6, 5)
    assert not {"key_id", "holders", "approvals", "answers"} & set(found)
    assert statuses.round_json(a_status())["protocol"] == "ckks"


def test_a_list_of_masking_rounds_counts_clients_alone() -> None:
    text = _shown(statuses.rounds_table([_masked()]))
    assert all(part in text for part in ("Revealed", "7/9", "5/6"))
    assert "Holders" not in text


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (Phase.OPEN, "9/10 clients joined"),
        (Phase.SHARING, "8/9 clients shared their secrets"),
        (Phase.UPLOADING, "7/8 clients uploaded"),
        (Phase.CONFIRMING, "6/7 clients confirmed who is in the sum"),
        (Phase.UNMASKING, "5/6 clients revealed shares of the masks"),
        (Phase.PUBLISHED, "3 contributors, total weight 2.5"),
        (Phase.ABORTED, "because"),
    ],
)
def test_a_line_of_a_masking_round_says_what_is_waited_for(phase: Phase, words: str) -> None:
    assert statuses.round_line(_masked(phase)) == f"round 1 {phase.value}: {words}"
