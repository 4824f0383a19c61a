"""The API of the application's state."""

from __future__ import annotations

from flask import Flask, Response, request

from services.coordinator.api import http
from services.coordinator.coordinator import Coordinator
from services.coordinator.state_queries import NOW, StateQueries
from services.parameters import shard_number
from services.problems import Problem


def add_query_route(app: Flask, coordinator: Coordinator) -> None:
    """Add the route `/api/v1/query` to the application."""
    queries = StateQueries(coordinator.cluster_state)

    @app.get("/api/v1/query")
    def query() -> Response:
        """Query the application's state, current or past.

        The parameter `shard` is 0 by default; `at` is now, the default, or offset:N, seq:N or
        time:T, which needs the token. All others go to the application. The answer is as for
        `StateQueries.now` and `StateQueries.past`.
        """
        parameters = request.args.to_dict()
        shard = shard_number(parameters.pop("shard", "0"), coordinator.shards)
        at = parameters.pop("at", NOW)
        if not parameters:
            raise Problem(
                "malformed-request",
                "the query has no parameters: add the application's, such as account=alice",
            )
        if at == NOW:
            return http.json_response(queries.now(shard, parameters))
        http.authorize(coordinator.token)
        return http.json_response(queries.past(shard, at, parameters))
