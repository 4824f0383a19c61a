"""HTTP to services of ours."""

from __future__ import annotations

import requests


def direct_session() -> requests.Session:
    """Never through a proxy, whatever HTTP_PROXY says: it would be sent to its own 127.0.0.1."""
    session = requests.Session()
    session.trust_env = False
    return session
