"""Every store, opened again as often as a test likes: each opening stands for a restart."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from coordinator.contracts import RequestRecord, RoundStore
from coordinator.store.rounds import SqlRoundStore
from tests.job_material import a_job
from tests.services.shared import postgres_server

REQUEST = RequestRecord(caller="operator/olga", request_id="r1", digest=b"\x01" * 32)


@cache
def _upgraded() -> str:
    """Return a PostgreSQL database that holds the schema and nothing else, to make copies of."""
    url = postgres_server().new_database()
    SqlRoundStore(url).close()
    return url


def new_url(kind: str, directory: Path) -> str:
    """Return the URL of an empty database."""
    if kind == "sqlite":
        return f"sqlite:///{directory / 'rounds.db'}"
    return postgres_server().new_database(like=_upgraded())


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_url(request.param, tmp_path)


@pytest.fixture
def opened(database_url: str) -> Iterator[Callable[[], RoundStore]]:
    """Open the same store again each time it is called, as a restart does."""
    stores: list[RoundStore] = []

    def opener() -> RoundStore:
        for store in stores:
            store.close()
        stores[:] = [SqlRoundStore(database_url)]
        return stores[0]

    yield opener
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Callable[[], RoundStore]) -> RoundStore:
    return opened()


@pytest.fixture
def with_job(store: RoundStore) -> RoundStore:
    store.create_job(a_job(), 100.0, REQUEST)
    return store
