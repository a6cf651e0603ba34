"""A failed call, read as one of our errors."""

from dataclasses import dataclass

import grpc
import pytest

from secagg.errors import RemoteError, SecAggError, UnreachableError
from secagg.rpc_errors import error_from_rpc

INTERNAL = grpc.StatusCode.INTERNAL
BROKEN = "Internal error from Core."


@dataclass
class Failed:
    """What a call of gRPC's raises."""

    status: grpc.StatusCode
    text: str
    metadata: tuple[tuple[str, str | bytes], ...] = ()

    def code(self) -> grpc.StatusCode:
        return self.status

    def details(self) -> str:
        return self.text

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self.metadata


@pytest.mark.parametrize(
    ("failed", "kind"),
    [
        (Failed(INTERNAL, BROKEN), UnreachableError),
        (Failed(INTERNAL, "out of memory"), RemoteError),
        (Failed(grpc.StatusCode.UNKNOWN, BROKEN), RemoteError),
        (Failed(INTERNAL, BROKEN, (("secagg-error", "RemoteError"), ("secagg-error-fields-bin", b"{}"))), RemoteError),
        (Failed(grpc.StatusCode.UNAVAILABLE, ""), UnreachableError),
        (Failed(grpc.StatusCode.DEADLINE_EXCEEDED, ""), UnreachableError),
    ],
)
def test_a_stream_that_broke_is_silence_and_a_failure_that_was_told_is_none(
    failed: Failed, kind: type[SecAggError]
) -> None:
    error = error_from_rpc(failed, party="north")
    assert type(error) is kind
    assert "north" in str(error)
