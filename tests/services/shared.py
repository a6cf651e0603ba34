"""One server of each kind for all tests of a process, started by the first that asks. What cannot be started fails the test."""

from __future__ import annotations

import atexit
from functools import cache

from tests.services.postgres import PostgresServer
from tests.services.s3 import S3Server


@cache
def postgres_server() -> PostgresServer:
    """Return a PostgreSQL that runs until this process ends."""
    server = PostgresServer().__enter__()
    atexit.register(server.stop)
    return server


@cache
def s3_server() -> S3Server:
    """Return an S3-compatible server that runs until this process ends."""
    server = S3Server().__enter__()
    atexit.register(server.stop)
    return server
