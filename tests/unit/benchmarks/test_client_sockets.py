"""Bytes of this process's own connections, counted without leaving a descriptor behind."""

import socket
from pathlib import Path

import pytest

from benchmarks.contestants.client_sockets import bytes_by_direction


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_a_connection_carried_is_counted_and_no_descriptor_stays_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, (tmp_path / "file").open("w"):
        address = "{}:{}".format(*server.getsockname())
        with socket.create_connection(server.getsockname()) as client:
            there, _ = server.accept()
            with there:
                client.sendall(bytes(1000))
                there.sendall(bytes(3000))
                assert len(there.recv(1000, socket.MSG_WAITALL)) == 1000
                assert len(client.recv(3000, socket.MSG_WAITALL)) == 3000
                before = descriptors()
                # Both ends are ours here; the server's has another peer. TCP counts its own first byte as acknowledged.
                sent, received = bytes_by_direction(address)
                assert (sent - 1, received) == (1000, 3000)
                assert descriptors() == before


@pytest.mark.parametrize("port", [1])
def test_nothing_is_counted_of_connections_to_elsewhere(port: int) -> None:
    assert bytes_by_direction(f"127.0.0.1:{port}") == (0, 0)
