"""``secagg client submit``: what a person reads when something is wrong, and that nothing is written then."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from secagg.cli import client as command
from secagg.cli.main import app
from secagg.client import Progress, RoundResult
from secagg.errors import BusyError, UnreachableError
from secagg.messages.round import Phase
from tests.pki_material import ALICE, OPERATOR, Deployment, deployment

RUNNER = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
HOLDERS = [part for name in ("north", "south", "east", "west") for part in ("--holder", name)]
RESULT = RoundResult(
    mean={"w": np.zeros(2)},
    total_weight=7.5,
    contributors=("alice", "bob"),
    round=3,
    clipped=1200,
    uploaded_bytes=98304,
)


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    made = deployment(tmp_path_factory.mktemp("pki"))
    made.identity(ALICE)
    made.identity(OPERATOR)
    return made


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("update.npz", w=np.zeros(3, dtype=np.float32))


SUBMIT = ["client", "submit", "--job", "digits", "--update", "update.npz", "--weight", "2", "--out", "mean.npz"]


def _submit(*options: str, update: str = "update.npz", out: str = "mean.npz", exit_code: int = 1) -> Result:
    arguments = ["client", "submit", "--job", "digits", "--update", update, "--weight", "2", "--out", out, *options]
    done = RUNNER.invoke(app, arguments)
    assert done.exit_code == exit_code, done.output
    assert not Path("mean.npz").exists()
    return done


def _options(parties: Deployment, party: object = ALICE) -> list[str]:
    directory = parties.pki.path_of(party)  # type: ignore[arg-type]
    # Nobody listens on port 1.
    return ["--coordinator", "127.0.0.1:1", "--identity", str(directory), *HOLDERS]


@pytest.mark.parametrize(
    ("update", "said"),
    [("missing.npz", "No such file"), ("text.npz", "no .npz file"), ("objects.npz", "no .npz file")],
)
def test_an_update_that_cannot_be_read_is_named_before_anything_is_sent(
    parties: Deployment, update: str, said: str
) -> None:
    Path("text.npz").write_text("w = 1")
    np.savez("objects.npz", w=np.array([{}], dtype=object))
    done = _submit(*_options(parties), update=update)
    assert f"error: {update}" in done.stderr
    assert said in done.stderr
    assert "next step:" in done.stderr


def test_a_place_for_the_mean_that_is_none_is_named_before_anything_is_sent(parties: Deployment) -> None:
    assert "is no directory" in _submit(*_options(parties), out="missing/mean.npz").stderr


def test_without_a_configuration_what_is_missing_is_named() -> None:
    done = _submit()
    assert "SECAGG_CLIENT_IDENTITY is missing" in done.stderr


def test_the_configuration_of_this_directory_is_used() -> None:
    Path("client.toml").write_text("identy = 'x'\n")
    assert "client.toml" in _submit().stderr


def test_the_certificate_of_another_role_is_refused(parties: Deployment) -> None:
    assert "not for a client" in _submit(*_options(parties, OPERATOR)).stderr


def test_a_round_that_never_comes_ends_in_an_error(parties: Deployment) -> None:
    done = _submit(*_options(parties), "--wait-seconds", "0.5")
    assert "error: " in done.stderr
    assert "coordinator/coordinator is unreachable" in done.stderr


def test_the_options_stand_above_the_file(parties: Deployment) -> None:
    Path("client.toml").write_text(
        'identity = "nowhere"\n[coordinator]\naddress = "127.0.0.1:2"\n[policy]\nholders = ["north"]\n'
    )
    assert "unreachable" in _submit(*_options(parties), "--wait-seconds", "0.5").stderr


def test_a_state_directory_counts_from_here_and_stands_above_the_file(
    parties: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/client.toml").write_text('state_dir = "of-the-file"\n')
    made: dict[str, object] = {}
    monkeypatch.setattr("secagg.client.Client", lambda *_, **given: made.update(given))
    options = ["--config", "elsewhere/client.toml", *_options(parties)]
    for more, expected in (((), "elsewhere/of-the-file"), (("--state-dir", "here"), "here")):
        RUNNER.invoke(app, [*SUBMIT, *options, *more])
        assert made["state_dir"] == Path(expected).absolute()


def test_the_result_is_told_to_people_and_to_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    command._say("digits", Path("mean.npz"), RESULT, as_json=False)
    told = capsys.readouterr().out
    assert "Round 3 of job digits: 2 updates, total weight 7.50." in told
    assert "1,200 entries" in told
    command._say("digits", Path("mean.npz"), RESULT, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "job": "digits",
        "round": 3,
        "contributors": ["alice", "bob"],
        "total_weight": 7.5,
        "clipped": 1200,
        "uploaded_bytes": 98304,
        "resumed": False,
        "out": "mean.npz",
    }


def test_who_went_on_with_an_earlier_update_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    command._say("digits", Path("mean.npz"), RESULT, as_json=False)
    assert "before the restart" not in capsys.readouterr().out
    command._say("digits", Path("mean.npz"), replace(RESULT, resumed=True), as_json=False)
    assert "the one given now was not used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("phase", "done", "number", "said"),
    [
        (Phase.OPEN, 0, 0, "waiting for a round"),
        (Phase.OPEN, 1, 4, "round 4: encrypting"),
        (Phase.OPEN, 9, 4, "round 4: waiting for the roster"),
        (Phase.UPLOADING, 1, 4, "round 4: uploading"),
        (Phase.UPLOADING, 9, 4, "round 4: waiting for the others"),
        (Phase.SHARING, 0, 4, "round 4: sharing secrets with neighbours"),
        (Phase.CONFIRMING, 9, 4, "round 4: confirming who is in the sum"),
        (Phase.UNMASKING, 9, 4, "round 4: taking the masks off the sum"),
        (Phase.DECRYPTING, 9, 4, "round 4: key holders open the sum"),
    ],
)
def test_a_bar_says_what_happens(phase: Phase, done: int, number: int, said: str) -> None:
    assert command._description(Progress(phase=phase, done=done, total=9, round=number)) == said


def test_bars_are_shown_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with command._progress_bars() as show:
        show(Progress(phase=Phase.UPLOADING, done=3, total=9, round=4))
        assert capsys.readouterr() == ("", "")
        show(Progress(phase=Phase.OPEN, done=0, total=0, round=0, note="round 4 was joined before"))
        assert capsys.readouterr() == ("", "Waiting for a later round: round 4 was joined before.\n")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with command._progress_bars() as show:
        show(Progress(phase=Phase.UPLOADING, done=3, total=9, round=4))
    assert "round 4: uploading" in capsys.readouterr().err


def test_a_bar_says_why_another_round_is_awaited() -> None:
    noted = Progress(phase=Phase.OPEN, done=0, total=0, round=0, note="round 4 was joined before")
    assert command._description(noted) == "waiting for a later round: round 4 was joined before"


def test_several_coordinators_are_given_one_by_one(parties: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr("secagg.client.Client", lambda *arguments, **_: given.extend(arguments))
    RUNNER.invoke(app, [*SUBMIT, *_options(parties), "--coordinator", "127.0.0.1:2"])
    assert given == [("127.0.0.1:1", "127.0.0.1:2")]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("ended", [KeyboardInterrupt(), UnreachableError("coordinator"), BusyError("full")])
def test_who_is_stopped_inside_a_round_is_told_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, kept: bool, ended: BaseException
) -> None:
    if kept:
        (tmp_path / "digits.journal").write_bytes(b"events")
    with pytest.raises(type(ended)), command._saying_how_to_go_on("digits", tmp_path):
        raise ended
    assert ("Run the same command again" in capsys.readouterr().err) is kept
