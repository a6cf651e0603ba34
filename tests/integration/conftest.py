"""A deployment of real processes for the tests of a module."""

from collections.abc import AsyncIterator, Iterator

import pytest

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
