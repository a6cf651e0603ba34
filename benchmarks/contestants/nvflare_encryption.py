"""NVFlare's HE client: its own model encryptor on one flat layer, and FOBS, which makes the bytes that go on the wire.

Its context is what its provisioning makes: N = 8192, [60, 40, 40] bits, scale 2^40, symmetric, the secret key at the client.
"""

import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tenseal
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_opt.he.model_encryptor import HEModelEncryptor
from nvflare.fuel.sec.security_content_service import SecurityContentService
from nvflare.fuel.utils import fobs
from nvflare.lighter.impl.he import HEBuilder

from benchmarks.stage import Checked, Prepare, Run, serve

CONTEXT_FILE = "client_context.tenseal"
NOTE = (
    "N = 8192, log2 Q = 100 ([60, 40]; 140 with the special prime; λ ≥ 128 up to 218), scale 2^40, symmetric; "
    "the bytes hold a copy of the public context"
)
CHECKED_VALUES = 10_000
MOST_ERROR = 1e-4


class Client:
    """A client after its start: the encryptor has loaded the context from the start-up kit's folder."""

    def __init__(self) -> None:
        builder = HEBuilder()
        builder.initialize(None, None)
        kit = builder.get_serialized_context(is_client=True)
        self.secret_context = tenseal.context_from(kit)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / CONTEXT_FILE).write_bytes(kit)
            SecurityContentService.initialize(content_folder=folder)
            self._fl_context = FLContext()
            self._fl_context.set_prop(FLContextKey.SECURE_MODE, value=False)  # Nobody has signed this kit.
            self._fl_context.set_peer_context(FLContext())
            self._encryptor = HEModelEncryptor(CONTEXT_FILE)
            self._encryptor.handle_event(EventType.START_RUN, self._fl_context)

    def encrypted(self, vector: np.ndarray) -> Any:
        """As the task-result filter does it: a DXO with one layer of float32 (values,), weighted by one step."""
        update = DXO(DataKind.WEIGHT_DIFF, data={"layer": vector}, meta={MetaKey.NUM_STEPS_CURRENT_ROUND: 1})
        return self._encryptor.process_dxo(update, Shareable(), self._fl_context)

    def wire(self, encrypted: Any) -> bytes:
        """What the cell sends."""
        return fobs.dumps(encrypted.to_shareable())

    def check(self, values: int) -> dict[str, Any]:
        """Open what is sent; return the largest error of a value."""
        vector = vector_of(values)
        received = from_shareable(fobs.loads(self.wire(self.encrypted(vector)))).data["layer"]
        opened = tenseal.ckks_vector_from(self.secret_context, received.serialize()).decrypt()
        error = float(np.abs(np.array(opened) - vector).max())
        assert error < MOST_ERROR
        return {"error": error}


def vector_of(values: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, values).astype(np.float32)


def encrypt(case: dict[str, Any]) -> Run:
    client, vector = Client(), vector_of(case["values"])
    client.check(CHECKED_VALUES)

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        encrypted = client.encrypted(vector)
        middle = time.perf_counter()
        data = client.wire(encrypted)
        end = time.perf_counter()
        phases = {"encrypt": middle - start, "serialise": end - middle}
        return {"seconds": end - start, "bytes": len(data), "phases": phases, "note": NOTE}

    return Checked(run, lambda: client.check(case["values"]))


WORKS: dict[str, Prepare] = {"encrypt": encrypt}

if __name__ == "__main__":
    serve(WORKS, lambda: {name: version(name) for name in ("nvflare", "tenseal", "numpy")})
