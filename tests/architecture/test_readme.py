"""What the README and its neighbours say is so: the example runs, the commands parse, the links lead somewhere."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from secagg.cli.main import COMMANDS, EPILOG, HELP, app
from secagg.client import RoundResult
from secagg.ids import JobId
from secagg.messages.round import Phase
from secagg.plan import TensorSpec
from tests.live_deployment import LiveDeployment, visited
from tests.live_jobs import live_job, updates_of, weights_of

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [*(f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG"))]
DOCUMENTS += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {**{name: (ROOT / name).read_text() for name in DOCUMENTS}, "secagg --help": HELP + EPILOG}

EXAMPLE_LINES = 10
EXAMPLE_SECONDS = 60.0
EXAMPLE_WEIGHT = 120.0
OTHERS = ("bob", "carol")
LAYERS = (
    TensorSpec(name="layer.weight", shape=(20, 10), dtype="float32"),
    TensorSpec(name="layer.bias", shape=(10,), dtype="float32"),
)


def sdk_example() -> str:
    """Return the code between the marker and the end of its fence."""
    [found] = re.findall(r"<!-- sdk-example -->\n```python\n(.*?)```", README, flags=re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDeployment]:
    made = LiveDeployment(tmp_path_factory.mktemp("readme"))
    try:
        made.start()
        yield made
    finally:
        made.close()


def test_the_example_is_short() -> None:
    assert len(sdk_example().splitlines()) <= EXAMPLE_LINES


async def test_the_example_takes_part_in_a_round_of_real_processes(standing: LiveDeployment, tmp_path: Path) -> None:
    async with visited(standing) as live:
        spec = await live.create(live_job(job=JobId("mnist"), tensors=LAYERS, max_weight=200.0))
        (tmp_path / "client.toml").write_text(live.client_config("alice").read_text())
        printed, results = await asyncio.gather(run_example(tmp_path), live.take_part(spec, OTHERS))
        status = await live.ended(spec)
    assert status.phase is Phase.PUBLISHED, status.reason
    numbers, shape = printed.splitlines()
    round_number, contributors, total_weight = numbers.split()
    weights = weights_of(OTHERS)
    assert (round_number, contributors, shape) == ("1", "3", "(20, 10)")
    assert float(total_weight) == pytest.approx(EXAMPLE_WEIGHT + sum(weights.values()), abs=0.01)
    # What it sent counts: a matrix of ones, at its weight.
    bob = results["bob"]
    assert isinstance(bob, RoundResult), repr(bob)
    others = sum(weights[name] * update["layer.weight"] for name, update in updates_of(spec, OTHERS).items())
    assert bob.mean["layer.weight"] == pytest.approx((EXAMPLE_WEIGHT + others) / float(total_weight), abs=1e-4)


async def run_example(directory: Path) -> str:
    """Run the example as a training job would, in a process of its own; return what it prints."""
    script = directory / "example.py"
    script.write_text(sdk_example())
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, script, cwd=directory, stdout=pipe, stderr=pipe)
    try:
        out, complaint = await asyncio.wait_for(process.communicate(), EXAMPLE_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, complaint.decode()
    return out.decode()


# Commands


def typed_commands() -> list[str]:
    """Return every line of a console block that starts the command, without its comment."""
    lines = [match for name in DOCUMENTS for match in re.findall(r"^ *\$ secagg (.*)$", TEXTS[name], re.MULTILINE)]
    return [line.partition(" #")[0].strip() for line in lines]


def named_commands() -> list[str]:
    """Return every command that stands in backquotes, placeholders aside: those are written large."""
    found = [match for text in TEXTS.values() for match in re.findall(r"`secagg ([a-z][^`\n]*)`", text)]
    return sorted(set(found))


def command_and_rest(words: list[str]) -> tuple[Any, list[str]]:
    """Walk down the tree of commands as the program does; fail where a word names no command."""
    command: Any = get_command(app)
    context = command.make_context("secagg", [], resilient_parsing=True)
    while words and hasattr(command, "resolve_command"):
        word = words[0]
        name, command, words = command.resolve_command(context, words)
        assert command is not None, f"no such command: {word}"
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
    return command, words


def parsed(line: str) -> dict[str, Any]:
    """Return what a whole command line gives the command; fail on options and arguments that it does not take."""
    command, words = command_and_rest(shlex.split(line))
    context = command.make_context(command.name, [], resilient_parsing=True)
    context.resilient_parsing = False  # or the parser would let every option pass
    values, left, _ = command.make_parser(context).parse_args(args=words)
    assert not left, f"{line}: {left} is too much"
    missing = [one.name for one in command.params if one.required and values.get(one.name) in (None, ())]
    assert not missing, f"{line}: {missing} is missing"
    return dict(values)


@pytest.mark.parametrize("line", typed_commands())
def test_a_command_line_that_a_reader_types_is_one_that_the_program_takes(line: str) -> None:
    parsed(line)


@pytest.mark.parametrize("line", named_commands())
def test_a_command_that_a_document_names_exists(line: str) -> None:
    command, rest = command_and_rest(shlex.split(line))
    options = {option for one in command.params for option in one.opts}
    assert {word for word in rest if word.startswith("-")} - {"--help"} <= options


def test_the_commands_are_found_and_held_to_what_the_program_takes() -> None:
    # The tests above pass on no commands at all, and on a parser that takes everything.
    assert {"pki", "key-holder", "coordinator", "job", "round", "client"} <= {
        line.split()[0] for line in typed_commands()
    }
    assert parsed("pki issue client alice")["name"] == "alice"
    for wrong in ("client submit --no-such-option", "job create extra words", "no-such-command", "pki no-such-command"):
        # Typer keeps its parser's error types to itself.
        with pytest.raises(Exception, match=r"(?i)no such|is missing|too much"):
            parsed(wrong)


def test_help_and_the_program_name_the_same_commands() -> None:
    assert {line.split()[0] for line in named_commands()} <= set(COMMANDS)


# Links and paths


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", TEXTS[name])
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)]
    assert [target for target in local if target and not (ROOT / name).parent.joinpath(target).exists()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_in_backquotes_exists(name: str) -> None:
    folders = [path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    paths = re.findall(rf"`((?:{'|'.join(folders)})/[\w./*-]*)(?:::[\w\[\]-]+)?`", TEXTS[name])
    assert [path for path in paths if not any(ROOT.glob(path))] == []


def test_the_readme_leads_to_all_that_a_stranger_needs() -> None:
    linked = set(re.findall(r"\]\(([^)\s]+)\)", README))
    samples = {f"docs/samples/{path.name}" for path in (ROOT / "docs" / "samples").iterdir()}
    assert samples | {"docs/protocol.md", "docs/threat-model.md", "CONTRIBUTING.md", "SECURITY.md"} <= linked
