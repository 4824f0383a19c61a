"""The ports of a local system: the well-known ones, or free ones."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Mapping

HOST = "127.0.0.1"

METRICS_SERVICES = ("producer", "consumer-results", "consumer-balances", "leader-view")
"""Services with a separate port for `/metrics`, named `NAME/metrics`; replicas have none."""

# Below the range from which Linux (32768-) and macOS (49152-) take the ports of outgoing
# connections: such a port could be taken while the replica that listens on it restarts.
FREE_RANGE = range(15_000, 32_000)


def well_known_ports(replicas: int) -> dict[str, int]:
    """Return port name → the port that the documents name."""
    ports = {"kafka": 9092, "kafka-controller": 9093, "redis": 6379, "producer": 8080}
    for i, name in enumerate(METRICS_SERVICES):
        ports[f"{name}/metrics"] = 8081 + i
    ports |= {"coordinator": 8085, "coordinator/metrics": 8086}
    for i in range(replicas):
        ports[f"replica-{i + 1}"] = 7070 + 10 * i
        ports[f"replica-{i + 1}/tripwire"] = 7071 + 10 * i
    return ports


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: otherwise a connection that closed a minute ago counts as a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose_ports(
    wanted: Mapping[str, int],
    *,
    prefer_wanted: bool,
    free: Callable[[int], bool] = is_free,
) -> dict[str, int]:
    """Return port name → a free port, all different; the wanted one if free and preferred."""
    chosen: dict[str, int] = {}
    for name, port in wanted.items():
        taken = set(chosen.values()) | (set(wanted.values()) - {port})
        if prefer_wanted and port not in taken and free(port):
            chosen[name] = port
        else:
            chosen[name] = _any_free_port(taken | {port}, free)
    return chosen


def moved_ports(wanted: Mapping[str, int], chosen: Mapping[str, int]) -> list[str]:
    """Return one message for each wanted port that is in use."""
    return [
        f"port {port} of {name} is in use: using {chosen[name]}"
        for name, port in wanted.items()
        if chosen[name] != port
    ]


def _any_free_port(taken: set[int], free: Callable[[int], bool]) -> int:
    while True:
        port = random.choice(FREE_RANGE)
        if port not in taken and free(port):
            return port
