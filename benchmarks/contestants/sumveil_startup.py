"""How long until ours is there: the client's SDK, the command's help, a coordinator and a key holder that answer."""

import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.contestants.starting import answers, free_port, imports, prints
from benchmarks.stage import Prepare, Run, serve
from secagg.party import Party, Role
from tests.job_material import HOLDERS
from tests.pki_material import COORDINATOR, deployment

COMMAND = [sys.executable, "-m", "secagg.cli.main"]


def coordinator(_: dict[str, Any]) -> Run:
    holders = "\n".join(f'{name} = "127.0.0.1:1"' for name in HOLDERS)
    return _service("coordinator", COORDINATOR, f"[key_holders]\n{holders}\n")


def key_holder(_: dict[str, Any]) -> Run:
    party = Party(role=Role.KEY_HOLDER, name=HOLDERS[0])
    return _service("key-holder", party, '[sealing]\nkey_file = "sealing.key"\ncreate_key_file = true\n')


def _service(command: str, party: Party, settings: str) -> Run:
    """Its data are those of the run before: only the first makes a database."""
    folder, port = tempfile.TemporaryDirectory(), free_port()
    identity = deployment(Path(folder.name) / "pki").identity(party).paths.certificate.parent
    config = Path(folder.name) / "config.toml"
    config.write_text(
        f'listen = "127.0.0.1:{port}"\nidentity = "{identity}"\ndata_dir = "data"\ngrace_seconds = 1.0\n{settings}'
    )

    def run() -> dict[str, Any]:
        assert Path(folder.name).exists()  # It lives as long as what runs in it.
        return answers([*COMMAND, command, "serve", "--config", str(config)], port)

    return run


WORKS: dict[str, Prepare] = {
    # With all that a client's first round loads, as the peers' statements load their whole client.
    "import": imports("import secagg.client, secagg.client.rounds, secagg.client.config; secagg.client.Client"),
    "import, before the first round": imports("import secagg.client; secagg.client.Client"),
    "secagg --help": prints([*COMMAND, "--help"]),
    "coordinator answers": coordinator,
    "key holder answers": key_holder,
    "bare interpreter": imports("pass"),
}

if __name__ == "__main__":
    serve(WORKS, lambda: {"sumveil": version("sumveil")})
