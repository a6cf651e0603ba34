"""Peers' own environments: their dependencies clash with ours, so that each has a folder of its own under ``.bench/``."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from benchmarks.arena import ROOT, Contestant, ours
from benchmarks.records import Missing

PEERS = ROOT / "benchmarks" / "peers"
CONTESTANTS = ROOT / "benchmarks" / "contestants"
PLACE = ROOT / ".bench"
NEEDED_PYTHON = {"openfhe": "3.10"}
"""OpenFHE's wheel has a module for CPython 3.10 alone; the others take the interpreter that runs us."""
INSTALL_SECONDS = 900.0
_STAMP = "requirements.sha256"
_LAST_LINES = 3


def contestant(name: str, question: str) -> Contestant | Missing:
    """Who takes part in a question: `contestants/<name>_<question>.py` in an environment that holds what it needs."""
    script = CONTESTANTS / f"{name}_{question}.py"
    if name == "sumveil":
        return ours(script)
    python = environment(name)
    return python if isinstance(python, Missing) else Contestant(name=name, python=python, script=script)


def environment(peer: str, *, place: Path = PLACE, requirements: Path | None = None) -> Path | Missing:
    """The peer's interpreter; its environment is made when there is none, or when ``peers/<peer>.txt`` has changed since."""
    file = requirements or PEERS / f"{peer}.txt"
    base = interpreter(NEEDED_PYTHON.get(peer))
    if base is None:
        version = NEEDED_PYTHON[peer]
        return Missing(contestant=peer, reason=f"no python{version} on this machine, and its wheel imports on no other")
    folder = place / peer
    stamp = sha256(file.read_bytes() + str(base).encode()).hexdigest()
    with _alone(place / f"{peer}.lock"):
        if _stamped(folder) != stamp:
            try:
                _make(folder, base, file)
            except (OSError, subprocess.SubprocessError) as error:
                return Missing(contestant=peer, reason=f"not installed: {_reason(error)}")
            (folder / _STAMP).write_text(stamp, encoding="ascii")
    return folder / "bin" / "python"


def interpreter(version: str | None) -> Path | None:
    """An interpreter of that version ("3.10") that starts and can make environments; the one that runs us for None."""
    if version is None:
        return Path(sys.executable)
    found = (one for one in _candidates(version) if _is_version(one, version))
    return next(found, None)


def _candidates(version: str) -> Iterator[Path]:
    name = f"python{version}"
    if on_path := shutil.which(name):
        yield Path(on_path)
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT", home / ".pyenv"))
    for versions in (pyenv / "versions", home / ".local/share/uv/python"):
        yield from sorted(versions.glob(f"*{version}*/bin/{name}"))


def _is_version(python: Path, version: str) -> bool:
    """A pyenv shim is on the path and yet only says that there is no such version."""
    asked = [str(python), "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return said.returncode == 0 and said.stdout.strip() == version


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Two programs do not make one environment at the same time."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _stamped(folder: Path) -> str | None:
    try:
        return (folder / _STAMP).read_text(encoding="ascii")
    except FileNotFoundError:
        return None


def _make(folder: Path, base: Path, requirements: Path) -> None:
    print(f"making {folder.name}'s environment ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    # Our own pip works for it: a venv without one is made in no time.
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check"]
    for command in (
        [str(base), "-m", "venv", "--without-pip", str(folder)],
        [*pip, "install", "--quiet", "-r", str(requirements)],
    ):
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return " ".join(error.stderr.strip().splitlines()[-_LAST_LINES:]) or str(error)
    return str(error)
