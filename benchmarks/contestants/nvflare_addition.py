"""NVFlare's HE server: FOBS takes one client's layer from its bytes, and its own aggregator adds it."""

import time
from importlib.metadata import version
from itertools import count
from typing import Any

import numpy as np
import tenseal
from nvflare.apis.dxo import DataKind, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_opt.he.intime_accumulate_model_aggregator import HEInTimeAccumulateWeightedAggregator
from nvflare.fuel.utils import fobs

from benchmarks.contestants.nvflare_encryption import CHECKED_VALUES, MOST_ERROR, Client, vector_of
from benchmarks.stage import Prepare, Run, serve


class Server:
    """An aggregator in its first round."""

    def __init__(self) -> None:
        self._names = map("client-{}".format, count())
        self._fl_context = FLContext()
        self._fl_context.set_prop(AppConstants.CURRENT_ROUND, 0)
        self._aggregator = HEInTimeAccumulateWeightedAggregator(expected_data_kind=DataKind.WEIGHT_DIFF)
        self._aggregator.handle_event(EventType.START_RUN, self._fl_context)

    def add(self, data: bytes) -> dict[str, float]:
        start = time.perf_counter()
        received = fobs.loads(data)
        middle = time.perf_counter()
        received.add_cookie(AppConstants.CONTRIBUTION_ROUND, 0)
        received.set_peer_props({ReservedKey.IDENTITY_NAME: next(self._names)})
        assert self._aggregator.accept(received, self._fl_context)
        return {"parse": middle - start, "add": time.perf_counter() - middle}

    def mean(self) -> Any:
        return from_shareable(self._aggregator.aggregate(self._fl_context)).data["layer"]


def check(client: Client) -> None:
    server, vector = Server(), vector_of(CHECKED_VALUES)
    for _ in range(3):
        server.add(client.wire(client.encrypted(vector)))
    opened = tenseal.ckks_vector_from(client.secret_context, server.mean().serialize()).decrypt()
    assert np.abs(np.array(opened) - vector).max() < MOST_ERROR


def add(case: dict[str, Any]) -> Run:
    client, server = Client(), Server()
    check(client)
    data = client.wire(client.encrypted(vector_of(case["values"])))

    def run() -> dict[str, Any]:
        phases = server.add(data)
        return {"seconds": sum(phases.values()), "bytes": len(data), "phases": phases}

    run()
    return run


WORKS: dict[str, Prepare] = {"add one client": add}

if __name__ == "__main__":
    serve(WORKS, lambda: {name: version(name) for name in ("nvflare", "tenseal", "numpy")})
