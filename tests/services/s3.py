"""A real S3-compatible server of one's own (moto's server process): ``with S3Server() as server: server.new_bucket()``."""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import boto3

from secagg.demo.processes import free_port
from tests.services.guard import GuardedServer

READY_SECONDS = 60.0
REGION = "eu-central-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}
"""What processes that use the server need in their environment; boto3 reads it there."""
_TRIES = 3


@dataclass(kw_only=True)
class S3Server:
    """One server on a loopback port. Ends with this process, however that ends."""

    port: int = field(default=0, init=False)
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
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def new_bucket(self) -> str:
        """Make an empty bucket; return the URL that a coordinator takes. :data:`CREDENTIALS` go into its environment."""
        name = f"test-{secrets.token_hex(6)}"
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        client.close()
        return f"s3://{name}/secagg?endpoint={self.endpoint}&region={REGION}"

    def stop(self) -> None:
        """End the server; what it kept was in its memory."""
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _start(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="secagg-s3-"))
        self.port = free_port()
        self._server = GuardedServer(
            command=[sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            directory=self._directory,
            log=self._directory / "log",
        )
        self._server.start()
        self._wait()

    def _wait(self) -> None:
        assert self._server is not None
        limit = time.monotonic() + READY_SECONDS
        while not self._answers():
            if not self._server.running:
                raise OSError(f"moto's server did not start: {self._log_tail()}")
            if time.monotonic() > limit:
                raise RuntimeError(f"moto's server is not ready after {READY_SECONDS} s: {self._log_tail()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/moto-api/")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _log_tail(self) -> str:
        assert self._server is not None
        return self._server.log.read_text(errors="replace")[-2000:] if self._server.log.exists() else "no log"


def use_credentials() -> None:
    """Put what the server takes into this process's environment; for scripts."""
    os.environ.update(CREDENTIALS)
