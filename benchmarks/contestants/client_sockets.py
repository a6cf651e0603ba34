"""What went over this process's own connections, as the kernel counts it: TLS, HTTP/2 and gRPC included, TCP's headers not."""

import os
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path

_INFO_BYTES = 256
_ACKED, _RECEIVED = 120, 128
"""Offsets of tcpi_bytes_acked and tcpi_bytes_received, u64, in Linux's `struct tcp_info`."""

_INTERNET = (socket.AF_INET, socket.AF_INET6)


def bytes_by_direction(address: str) -> tuple[int, int]:
    """Bytes sent to and received from ``host:port`` over all connections that are open now."""
    port = int(address.rpartition(":")[2])
    sent = received = 0
    for name in [one.name for one in Path("/proc/self/fd").iterdir()]:
        # A copy of what is no socket would stay open: a socket object refuses it, and does not close it.
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                one_way, other_way = _bytes_of(int(name), port)
                sent, received = sent + one_way, received + other_way
    return sent, received


def _bytes_of(descriptor: int, port: int) -> tuple[int, int]:
    with socket.socket(fileno=os.dup(descriptor)) as one:
        if one.family not in _INTERNET or one.getpeername()[1] != port:
            return 0, 0
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    return struct.unpack_from("Q", info, _ACKED)[0], struct.unpack_from("Q", info, _RECEIVED)[0]
