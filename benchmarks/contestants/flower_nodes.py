"""Flower's client mod on nodes that live in this process: every reply is what a `ClientApp` with `secaggplus_mod` gives."""

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, RECORD_KEY_STATE, Key
from flwr.common.serde import recorddict_to_proto
from flwr.compat.common.recorddict_compat import fitres_to_recorddict
from flwr.supercore.task_identity import TaskIdentity

EXAMPLES = 1000
"""Of every node; the workflow's `max_weight`, so that a vector counts whole."""
GROUP = "1"
TRAIN = "train"
# Every message carries them; a `ServerApp` has them from the engine that starts it.
TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 0


def vector_of(place: int, values: int) -> npt.NDArray[np.float32]:
    """Return a node's update, float32 (values,), within a clip of 1."""
    return np.random.default_rng(place).uniform(-1, 1, values).astype(np.float32)


def weighed(record: RecordDict) -> int:
    """Return how many bytes a message's content has on the wire."""
    return int(recorddict_to_proto(record).ByteSize())


class Node:
    """One client: its id, its state between the stages, and the vector that its training would have returned."""

    def __init__(self, number: int, values: int) -> None:
        self.number, self.values = number, values
        self.context = Context(run_id=1, node_id=number, node_config={}, state=RecordDict(), run_config={})
        self._result = RecordDict()

    def train(self) -> None:
        """Have the update ready: training is no part of what is measured."""
        update = ndarrays_to_parameters([vector_of(self.number, self.values)])
        done = FitRes(Status(Code.OK, ""), update, EXAMPLES, {})
        self._result = fitres_to_recorddict(done, keep_input=False)

    def forget(self) -> None:
        """Let go of the update once it is sent."""
        self._result = RecordDict()

    def remembered(self) -> ConfigRecord:
        """Return its state between the stages, which the mod replaces and does not change."""
        return self.context.state.config_records[RECORD_KEY_STATE]

    def remember(self, state: ConfigRecord) -> None:
        """Go back to a state."""
        self.context.state.config_records[RECORD_KEY_STATE] = state

    def answer(self, message: Message) -> Message:
        """Do one stage."""
        return secaggplus_mod(message, self.context, lambda asked, _: Message(self._result, reply_to=asked))


def asking(node: int, stage: str, fields: dict[str, Any], content: RecordDict | None = None) -> Message:
    """Return what the workflow sends to a node in a stage."""
    filled = RecordDict() if content is None else content
    filled.config_records[RECORD_KEY_CONFIGS] = ConfigRecord({**fields, Key.STAGE: stage})
    return Message(content=filled, dst_node_id=node, message_type=TRAIN, group_id=GROUP)


def fields_of(message: Message) -> Any:
    """Return what a stage answered."""
    return message.content.config_records[RECORD_KEY_CONFIGS]


def shuffled(numbers: Iterable[int], seed: int) -> list[int]:
    """Return the ring as the workflow draws it right after `random.seed(seed)`."""
    order = list(numbers)
    random.Random(seed).shuffle(order)
    return order
