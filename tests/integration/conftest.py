"""Deployments of real processes that tests share."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.holder_processes import REVOKED_CLIENT, THREE_HOLDERS, HolderProcesses, running
from tests.live_deployment import LiveDeployment, visited


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDeployment]:
    made = LiveDeployment(tmp_path_factory.mktemp("live"))
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
async def live(standing: LiveDeployment) -> AsyncIterator[LiveDeployment]:
    async with visited(standing) as deployment:
        yield deployment


@pytest.fixture(scope="session")
def holders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HolderProcesses]:
    """Three key holders; each test makes rounds of its own."""
    with running(tmp_path_factory.mktemp("holders"), THREE_HOLDERS, revoked=[REVOKED_CLIENT]) as made:
        yield made
