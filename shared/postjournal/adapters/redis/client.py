"""The connection to Redis: short time-outs, and no silent retries behind the callers' backs."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from postjournal.config.settings import REDIS_PASSWORD
from postjournal.core.errors import ConfigurationError


def connect(url: str, timeout_s: float = 2.0) -> redis.Redis:
    """Connects at first use. Raises `ConfigurationError` when `url` is none.

    The URL names the user, where there is one; the password, unless the URL has it, is in
    POSTJOURNAL_REDIS_PASSWORD, or in the file that POSTJOURNAL_REDIS_PASSWORD_FILE names.

    A command that fails is not repeated by the client: the caller reads what is there before it
    writes again, since the first attempt may have got through.
    """
    try:
        client = redis.Redis.from_url(
            url,
            password=REDIS_PASSWORD.read(os.environ),
            decode_responses=True,
            socket_connect_timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        # Neither the URL nor what is wrong with it: any part of it may be the password.
        raise ConfigurationError(
            "POSTJOURNAL_REDIS_URL is no URL of a Redis: use redis://[USER@]HOST:PORT/0, and put "
            "the password into POSTJOURNAL_REDIS_PASSWORD"
        ) from None
    assert isinstance(client, redis.Redis)
    return client


def without_password(url: str) -> str:
    """The URL as it may stand in a log."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
