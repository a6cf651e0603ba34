"""A whole round of Flower's SecAgg+ in its simulation engine: Ray actors for the clients, as many as there are cores.

The engine and its nodes stand before the first repetition, so that neither Ray's start nor the nodes' registration is timed. A round is one
call of the workflow.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context
from flwr.client import ClientApp, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common.recorddict_compat import arrayrecord_to_parameters, parameters_to_arrayrecord
from flwr.server import LegacyContext, ServerApp
from flwr.server.compat.app_utils import start_update_client_manager_thread
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.simulation import run_simulation

from benchmarks.contestants.flower_versions import versions
from benchmarks.stage import serve

EXAMPLES = 1000
TOLERANCE = 1e-4
STARTED_SECONDS = 120.0


class Trainer(NumPyClient):
    """Has trained already: the cheapest update that differs from client to client."""

    def __init__(self, place: int, values: int) -> None:
        self.place, self.values = place, values

    def fit(self, parameters: Any, config: Any) -> Any:  # noqa: ARG002 - as the engine calls it
        """Return a constant vector, which costs next to nothing to make."""
        return [np.full(self.values, update_of(self.place), dtype=np.float32)], EXAMPLES, {}


def update_of(place: int) -> float:
    """The one number that a client's update consists of."""
    return float(np.sin(place + 1.0))


class Engine:
    """The engine in a thread of its own; `play` lets its server run one round."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self._orders: queue.Queue[Any] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()
        clients = case["clients"]

        def client(context: Context) -> Any:
            return Trainer(int(context.node_config["partition-id"]), case["values"]).to_client()

        server = ServerApp()
        server.main()(self._serve)
        engine = threading.Thread(
            target=run_simulation,
            kwargs={
                "server_app": server,
                "client_app": ClientApp(client_fn=client, mods=[secaggplus_mod]),
                "num_supernodes": clients,
                "backend_config": {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
            },
            daemon=True,
        )
        engine.start()
        assert self._answers.get(timeout=STARTED_SECONDS) == clients

    def play(self) -> dict[str, Any]:
        """Run one round."""
        self._orders.put(self)
        found = self._answers.get()
        if isinstance(found, BaseException):
            raise found
        return {
            "seconds": found,
            "note": f"{self.case['shares'] - 1} neighbours; cores: all; peak_bytes is of the engine's process with the server",
        }

    def _serve(self, grid: Any, context: Context) -> None:
        legacy = LegacyContext(context, strategy=FedAvg(fraction_evaluate=0.0))
        thread, stop, _ = start_update_client_manager_thread(grid, legacy.client_manager)
        legacy.client_manager.wait_for(self.case["clients"], timeout=int(STARTED_SECONDS))
        self._answers.put(legacy.client_manager.num_available())
        number = 0
        while self._orders.get():
            number += 1
            try:
                self._answers.put(self._round(grid, legacy, number))
            except Exception as error:  # noqa: BLE001 - the other thread tells it
                self._answers.put(error)
        stop.set()
        thread.join()

    def _round(self, grid: Any, context: LegacyContext, number: int) -> float:
        values, clients = self.case["values"], self.case["clients"]
        model = ndarrays_to_parameters([np.zeros(values, dtype=np.float32)])
        context.state.array_records[MAIN_PARAMS_RECORD] = parameters_to_arrayrecord(model, keep_input=True)
        context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: number})
        workflow = SecAggPlusWorkflow(num_shares=self.case["shares"], reconstruction_threshold=self.case["threshold"])
        began = time.perf_counter()
        workflow(grid, context)
        seconds = time.perf_counter() - began
        model = arrayrecord_to_parameters(context.state.array_records[MAIN_PARAMS_RECORD], keep_input=True)
        (mean,) = parameters_to_ndarrays(model)
        true = np.mean([update_of(place) for place in range(clients)])
        assert np.abs(mean - true).max() < TOLERANCE
        return seconds


def prepare(case: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Whole rounds."""
    return Engine(case).play


if __name__ == "__main__":
    serve({"round": prepare}, versions)
