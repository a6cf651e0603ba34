"""What bounds the hot paths of `masking`."""

from collections.abc import Mapping
from typing import Any

from benchmarks.profiled.limits import Limits, Work, keystream
from benchmarks.profiled.masking import Vanished
from secagg.masking.stream import WORD_BYTES


def _masking_client(case: Mapping[str, Any]) -> Work:
    """A mask for each neighbour, the self mask, and the stream that rounds."""
    streams = case["shares"] + 1
    return lambda: keystream(streams * WORD_BYTES * case["values"])


def _unmasking(case: Mapping[str, Any]) -> Work:
    streams = Vanished(case).masks().count
    return lambda: keystream(streams * WORD_BYTES * case["values"])


LIMITS: Mapping[str, Limits] = {
    "client": {"bare AES-256-CTR": (_masking_client, "the keystreams of its masks and of its rounding")},
    "unmasking": {"bare AES-256-CTR": (_unmasking, "the keystreams of the masks that come off")},
}
"""By path."""
