"""HTTP sessions to Postjournal's own services."""

from __future__ import annotations

import requests
from requests.adapters import HTTPAdapter

MAX_HOSTS, MAX_CONNECTIONS_PER_HOST = 32, 64
"""Connections kept open: the gateway queries replicas from more threads than requests' defaults
of 10 and 10 allow for."""


def direct_session() -> requests.Session:
    """Return a session that ignores HTTP_PROXY and the other proxy variables.

    A proxy cannot reach the services' 127.0.0.1, and would see the API token.
    """
    session = requests.Session()
    session.trust_env = False
    adapter = HTTPAdapter(pool_connections=MAX_HOSTS, pool_maxsize=MAX_CONNECTIONS_PER_HOST)
    session.mount("http://", adapter)
    return session
