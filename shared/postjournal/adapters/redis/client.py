"""The connection to Redis: short timeouts, and no retries that callers do not see."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from postjournal.config.settings import RedisAccess
from postjournal.core.errors import ConfigurationError


def connect(access: RedisAccess, timeout_s: float = 2.0) -> redis.Redis:
    """A client that connects at first use; `timeout_s`: of a connect and of a command, seconds.

    The client does not repeat a command that failed: the first attempt may have been executed, so
    the caller reads the present values before it writes again. Raises `ConfigurationError` when
    the URL is invalid.
    """
    try:
        client = redis.Redis.from_url(
            access.url,
            password=access.password,
            decode_responses=True,
            socket_connect_timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        # Neither the URL nor the cause is shown: any part of them may be the password.
        raise ConfigurationError(
            "POSTJOURNAL_REDIS_URL is not a valid Redis URL: use redis://[USER@]HOST:PORT/0, and "
            "put the password into POSTJOURNAL_REDIS_PASSWORD"
        ) from None
    assert isinstance(client, redis.Redis)
    return client
