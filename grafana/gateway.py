"""The dashboard of the HTTP gateway, from its clients' point of view."""

from __future__ import annotations

from grafana.panels import Dashboard, Panel, Query, availability, stat, variable
from grafana.queries import RED_FROM_ONE, quantile, quantiles, rate

ROUTE = 'route=~"$route"'
ROUTES = (variable("route", "Route", "label_values(postjournal_gateway_requests_total, route)"),)
REQUESTS = "postjournal_gateway_requests_total"

PANELS = [
    availability(
        "Kafka",
        "Whether the gateway can append commands.",
        "min(postjournal_gateway_kafka_up)",
    ),
    stat(
        "Requests",
        "Responses per second.",
        Query(f"sum({rate(REQUESTS, ROUTE)})"),
        unit="reqps",
        width=5,
    ),
    stat(
        "p99",
        "Duration of all requests, including those that wait for a result.",
        Query(quantile(0.99, "postjournal_gateway_request_duration_seconds", ROUTE)),
        unit="s",
        width=5,
    ),
    stat(
        "Rejected (503)",
        "Share of responses with status 503: the client must retry. Alert: GatewayUnavailable.",
        Query("max(job:postjournal_gateway_unavailable:ratio_rate1m)"),
        unit="percentunit",
        width=5,
        colors=((None, "green"), (0.01, "orange"), (0.05, "red")),
    ),
    stat(
        "Errors",
        "Responses with status 5xx except 503 in the selected time range: bugs. Alert: "
        "GatewayErrors.",
        Query(
            f'sum(increase({REQUESTS}{{{ROUTE},status=~"5..",status!="503"}}[$__range])) '
            "or vector(0)",
            instant=True,
        ),
        width=5,
        decimals=0,
        colors=RED_FROM_ONE,
    ),
    Panel(
        "Requests by status",
        "Responses per second, by route and status.",
        [
            Query(
                f"sum by (method, route, status) ({rate(REQUESTS, ROUTE)})",
                "{{status}} {{method}} {{route}}",
            )
        ],
        unit="reqps",
        stacked=True,
    ),
    Panel(
        "Duration by route",
        "From the start of a request's handler to its response.",
        quantiles("postjournal_gateway_request_duration_seconds", ROUTE, "route, ", "{{route}} "),
        unit="s",
    ),
    Panel(
        "Commands sent to Kafka",
        "Per second, by outcome. `unknown`: Kafka did not acknowledge in time; the client must "
        "repeat the request.",
        [
            Query(
                f"sum by (outcome) ({rate('postjournal_gateway_commands_total', '')})",
                "{{outcome}}",
            )
        ],
        unit="cps",
        stacked=True,
    ),
    Panel(
        "Acknowledgement by Kafka",
        "How long it took until a request's commands were in the logs of all in-sync replicas.",
        quantiles("postjournal_gateway_append_duration_seconds", ""),
        unit="s",
    ),
    Panel(
        "Pending",
        "Requests that wait for their result, and commands that Kafka has not acknowledged yet.",
        [
            Query("sum(postjournal_gateway_waiting_requests)", "requests waiting for results"),
            Query("sum(postjournal_gateway_unacknowledged_commands)", "unacknowledged commands"),
        ],
    ),
    Panel(
        "CPU",
        "Cores used by the gateway.",
        [
            Query(
                'sum by (instance) (rate(process_cpu_seconds_total{job="producer"}'
                "[$__rate_interval]))",
                "{{instance}}",
            )
        ],
    ),
]

BOARD = Dashboard(
    uid="postjournal-gateway",
    title="Gateway",
    description="Requests, durations and errors of the HTTP gateway.",
    panels=PANELS,
    variables=ROUTES,
)
