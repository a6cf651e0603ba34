"""One Flower client through all four stages of SecAgg+, with real neighbours around it."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict
from flwr.common import FitIns, bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_STATE, Key, Stage
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.compat.common.recorddict_compat import fitins_to_recorddict
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

from benchmarks.contestants.flower_nodes import Node, asking, fields_of, vector_of, weighed
from benchmarks.contestants.flower_versions import versions
from benchmarks.stage import serve

OWN = 1
CLIP, RANGE, MODULUS = 8.0, 1 << 22, 1 << 32
"""The workflow's own defaults."""
MAX_WEIGHT = 1000.0


class Round:
    """A round in which one client is measured; its neighbours do what they must outside of the clock."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.values, self.shares = case["values"], case["shares"]
        self.setup = {
            Key.SAMPLE_NUMBER: case["clients"],
            Key.SHARE_NUMBER: self.shares,
            Key.THRESHOLD: case["threshold"],
            Key.CLIPPING_RANGE: CLIP,
            Key.TARGET_RANGE: RANGE,
            Key.MOD_RANGE: MODULUS,
            Key.MAX_WEIGHT: MAX_WEIGHT,
        }
        self.nodes = {number: Node(number, self.values) for number in range(OWN, OWN + self.shares)}
        model = ndarrays_to_parameters([np.zeros(self.values, dtype=np.float32)])
        self._model = lambda: fitins_to_recorddict(FitIns(model, {}), keep_input=True)
        self.seconds: dict[str, float] = {}
        self.up = self.down = 0

    def run(self) -> dict[str, Any]:
        """Take the measured client through the round; return the seconds of its own work."""
        self.seconds, self.up, self.down = {}, 0, 0
        self.nodes[OWN].train()
        keys = {
            str(number): [fields_of(answer)[Key.PUBLIC_KEY_1], fields_of(answer)[Key.PUBLIC_KEY_2]]
            for number, answer in self._all(Stage.SETUP, self.setup).items()
        }
        dealt = self._all(Stage.SHARE_KEYS, keys)
        sealed = {
            source: answer[Key.CIPHERTEXT_LIST][list(answer[Key.DESTINATION_LIST]).index(OWN)]
            for source, answer in ((number, fields_of(one)) for number, one in dealt.items() if number != OWN)
        }
        masked = self._own(
            Stage.COLLECT_MASKED_VECTORS,
            {Key.CIPHERTEXT_LIST: list(sealed.values()), Key.SOURCE_LIST: list(sealed)},
            self._model(),
        )
        revealed = self._own(Stage.UNMASK, {Key.ACTIVE_NODE_ID_LIST: [*self.nodes], Key.DEAD_NODE_ID_LIST: []})
        self._check(masked, revealed)
        return {
            "seconds": sum(self.seconds.values()),
            "bytes": self.up,
            "phases": self.seconds,
            "bytes_down": self.down,
        }

    def _all(self, stage: str, fields: dict[str, Any]) -> dict[int, Message]:
        others = {
            number: node.answer(asking(number, stage, fields)) for number, node in self.nodes.items() if number > OWN
        }
        return {OWN: self._own(stage, fields), **others}

    def _own(self, stage: str, fields: dict[str, Any], content: RecordDict | None = None) -> Message:
        asked = asking(OWN, stage, fields, content)
        self.down += weighed(asked.content)
        began = time.perf_counter()
        answer = self.nodes[OWN].answer(asked)
        self.seconds[stage] = time.perf_counter() - began
        self.up += weighed(answer.content)
        return answer

    def _check(self, masked: Message, revealed: Message) -> None:
        """Take the masks off again, with the client's own secrets, and find its vector."""
        assert len(fields_of(revealed)[Key.SHARE_LIST]) == self.shares
        state = self.nodes[OWN].context.state.config_records[RECORD_KEY_STATE]
        factor, vector = (bytes_to_ndarray(one) for one in fields_of(masked)[Key.MASKED_PARAMETERS])
        shapes = [factor.shape, vector.shape]
        open_vector = vector - pseudo_rand_gen(state["rd_seed"], MODULUS, shapes)[1]
        for number, node in self.nodes.items():
            if number == OWN:
                continue
            public = bytes_to_public_key(node.context.state.config_records[RECORD_KEY_STATE]["pk1"])
            shared = generate_shared_key(bytes_to_private_key(state["sk1"]), public)
            # The node with the higher number adds, and the measured one has the lowest.
            open_vector = open_vector + pseudo_rand_gen(shared, MODULUS, shapes)[1]
        back = (open_vector % MODULUS) / (RANGE / (2 * CLIP)) - CLIP
        assert np.abs(back - vector_of(OWN, self.values)).max() < 2 * 2 * CLIP / RANGE


def prepare(case: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """One client's whole work: n clients, `shares` of each secret, its own among them."""
    return Round(case).run


if __name__ == "__main__":
    serve({"client": prepare}, versions)
