"""Flower's SecAgg+ workflow, the server's side: from masked vectors and key shares to the mean.

Another process plays all clients once, with the real client mod, and writes down what they say. Every repetition runs the whole workflow
on that; the time in which it waits for its grid, and the grid reads answers from disk, is none of the server's. So the process that is
measured holds what a server holds: messages, as they come off the wire, and sums. What was written down is kept in BENCH_FOLDER for the
other numbers of drop-outs.
"""

import os
import random
import time
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.common import FitIns, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.compat.common.recorddict_compat import arrayrecord_to_parameters, parameters_to_arrayrecord
from flwr.proto.recorddict_pb2 import RecordDict as WireRecordDict
from flwr.server import LegacyContext
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey

from benchmarks.contestants.flower_nodes import GROUP, TRAIN, Node, fields_of, shuffled, vector_of
from benchmarks.contestants.flower_versions import versions
from benchmarks.stage import serve

SEED = 5
"""Of the order of the ring, so that what was recorded fits every repetition."""
VANISHED = Error(code=0, reason="dropped out")
DROPS = {10: [0, 1, 3], 50: [0, 3, 15], 100: [0, 5, 30]}
"""Numbers of drop-outs for which the survivors' last answers are written down, by clients."""
TOLERANCE = 1e-4
"""Of the mean: the workflow quantises to 2^22 levels within a clip of 8."""


class Everybody(FedAvg):
    """Asks every node, and makes the workflow draw the same ring each time."""

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> Any:  # noqa: ARG002 - as the workflow calls it
        random.seed(SEED)
        return [
            (one, FitIns(parameters, {})) for one in sorted(client_manager.all().values(), key=lambda one: one.node_id)
        ]


class Recorder:
    """A grid whose nodes answer in this process; it writes down every answer, and ends the round before the server unmasks.

    `drops`: for each number of drop-outs, what the survivors say when asked to unmask is written down.
    """

    def __init__(self, case: dict[str, Any], folder: Path, drops: Iterable[int]) -> None:
        self.nodes = {number: Node(number, case["values"]) for number in range(1, case["clients"] + 1)}
        self.folder, self.drops = folder, tuple(drops)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:  # noqa: ARG002 - all answer
        asked = list(messages)
        stage = fields_of(asked[0])[Key.STAGE]
        if stage == Stage.UNMASK:
            for dropped in self.drops:
                self._unmask(asked, dropped)
            raise RecordedError
        return [self._answer(message, stage) for message in asked]

    def _answer(self, message: Message, stage: str) -> Message:
        node = self.nodes[message.metadata.dst_node_id]
        if stage == Stage.COLLECT_MASKED_VECTORS:
            node.train()
        # Over the wire each node gets a copy of its own; the mod takes fields out of what it gets.
        asked = recorddict_from_proto(recorddict_to_proto(message.content))
        answer = node.answer(Message(asked, dst_node_id=node.number, message_type=TRAIN, group_id=GROUP))
        write(self.folder / f"{stage}-{node.number}", answer)
        if stage == Stage.COLLECT_MASKED_VECTORS:
            node.forget()
        return answer

    def _unmask(self, asked: list[Message], dropped: int) -> None:
        gone = lost(list(self.nodes), dropped)
        for message in asked:
            node = self.nodes[message.metadata.dst_node_id]
            if node.number in gone:
                continue
            near = list(fields_of(message)[Key.ACTIVE_NODE_ID_LIST])
            fields = {
                Key.STAGE: Stage.UNMASK,
                Key.ACTIVE_NODE_ID_LIST: [one for one in near if one not in gone],
                Key.DEAD_NODE_ID_LIST: [one for one in near if one in gone],
            }
            state = node.remembered()
            again = Message(
                RecordDict({RECORD_KEY_CONFIGS: ConfigRecord(fields)}), dst_node_id=node.number, message_type=TRAIN
            )
            write(self.folder / f"{Stage.UNMASK}-{dropped}-{node.number}", node.answer(again))
            node.remember(state)


class RecordedError(Exception):
    """All that the clients say is on disk."""


class Replay:
    """A grid that gives recorded answers. `waited`: seconds that the server spent in here."""

    def __init__(self, folder: Path, dropped: int, gone: set[int]) -> None:
        self.folder, self.dropped, self.gone = folder, dropped, gone
        self.waited = 0.0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:  # noqa: ARG002 - all answer
        began = time.perf_counter()
        answers = [self._answer(message) for message in messages]
        self.waited += time.perf_counter() - began
        return answers

    def _answer(self, message: Message) -> Message:
        number, stage = message.metadata.dst_node_id, fields_of(message)[Key.STAGE]
        if stage == Stage.COLLECT_MASKED_VECTORS and number in self.gone:
            return Message(VANISHED, reply_to=message)
        name = f"{stage}-{self.dropped}-{number}" if stage == Stage.UNMASK else f"{stage}-{number}"
        return Message(read(self.folder / name), reply_to=message)


def write(path: Path, message: Message) -> None:
    """As it would go over the wire."""
    path.write_bytes(recorddict_to_proto(message.content).SerializeToString())


def read(path: Path) -> RecordDict:
    """As it comes off the wire."""
    wire = WireRecordDict()
    wire.ParseFromString(path.read_bytes())
    return recorddict_from_proto(wire)


def lost(numbers: list[int], dropped: int) -> set[int]:
    """At equal distances on the ring: with drop-outs in a cluster the workflow gives up."""
    ring = shuffled(numbers, SEED)
    return {ring[place * len(ring) // dropped] for place in range(dropped)} if dropped else set()


def server(grid: Any, case: dict[str, Any]) -> tuple[SecAggPlusWorkflow, LegacyContext]:
    """The workflow and what it works on, with zeros as the model so far."""
    manager = SimpleClientManager()
    for number in range(1, case["clients"] + 1):
        manager.register(GridClientProxy(number, grid, 1))
    context = LegacyContext(
        Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={}),
        strategy=Everybody(fraction_evaluate=0.0),
        client_manager=manager,
    )
    model = ndarrays_to_parameters([np.zeros(case["values"], dtype=np.float32)])
    context.state.array_records[MAIN_PARAMS_RECORD] = parameters_to_arrayrecord(model, keep_input=True)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    return SecAggPlusWorkflow(num_shares=case["shares"], reconstruction_threshold=case["threshold"]), context


def record(case: dict[str, Any], folder: Path, drops: list[int]) -> None:
    """Let all clients work once; in a process of its own, for their memory is not the server's."""
    recorder = Recorder(case, folder, drops)
    workflow, context = server(recorder, case)
    try:
        workflow(recorder, context)  # type: ignore[arg-type]
    except RecordedError:
        return
    raise RuntimeError("the workflow gave up before the masks were to be taken off")


def prepare(case: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """The server's work with so many of `clients` `dropped` after they shared keys."""
    folder = Path(os.environ["BENCH_FOLDER"], f"flower-{case['clients']}-{case['values']}")
    if not folder.exists():
        folder.mkdir()
        process = get_context("spawn").Process(target=record, args=(case, folder, DROPS[case["clients"]]))
        process.start()
        process.join()
        assert process.exitcode == 0, "the clients' process failed"
    gone = lost(list(range(1, case["clients"] + 1)), case["dropped"])

    def run() -> dict[str, Any]:
        grid = Replay(folder, case["dropped"], gone)
        workflow, context = server(grid, case)
        began = time.perf_counter()
        workflow(grid, context)  # type: ignore[arg-type]
        seconds = time.perf_counter() - began - grid.waited
        check(context, case, gone)
        return {"seconds": seconds}

    return run


def check(context: LegacyContext, case: dict[str, Any], gone: set[int]) -> None:
    """The model is the mean of those that stayed."""
    stayed = [number for number in range(1, case["clients"] + 1) if number not in gone]
    true = np.zeros(case["values"], dtype=np.float64)
    for number in stayed:
        true += vector_of(number, case["values"])
    (mean,) = parameters_to_ndarrays(
        arrayrecord_to_parameters(context.state.array_records[MAIN_PARAMS_RECORD], keep_input=True)
    )
    assert np.abs(mean - true / len(stayed)).max() < TOLERANCE


if __name__ == "__main__":
    serve({"server": prepare}, versions)
