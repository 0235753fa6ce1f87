"""Which ports of 127.0.0.1 are free for servers of ours, also when they come back."""

from __future__ import annotations

import random
import socket
from collections.abc import Container

# Below what systems give to outgoing connections: such a connection could sit on a server's port while it restarts.
_RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Whether nobody listens on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int, *, avoid: Container[int] = ()) -> list[int]:
    """Different free ports, in no order: two stacks that start at once rarely meet."""
    found: list[int] = []
    for port in random.sample(_RANGE, len(_RANGE)):
        if len(found) == count:
            break
        if port not in avoid and is_free(port):
            found.append(port)
    return found
