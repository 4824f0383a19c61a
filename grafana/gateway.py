"""What clients of the HTTP gateway see."""

from __future__ import annotations

from grafana.panels import Dashboard, Panel, Query, variable
from grafana.queries import BAD_FROM_ONE, quantile, quantiles, rate

ROUTE = 'route=~"$route"'
ROUTES = (variable("route", "Route", "label_values(postjournal_gateway_requests_total, route)"),)
REQUESTS = "postjournal_gateway_requests_total"

PANELS = [
    Panel(
        "Kafka",
        "Whether the gateway can append commands.",
        [Query("min(postjournal_gateway_kafka_up)")],
        kind="stat",
        width=4,
        height=4,
        texts={0: ("away", "red"), 1: ("reachable", "green")},
        options={"graphMode": "none"},
    ),
    Panel(
        "Requests",
        "Answered per second.",
        [Query(f"sum({rate(REQUESTS, ROUTE)})")],
        kind="stat",
        unit="reqps",
        width=5,
        height=4,
    ),
    Panel(
        "p99",
        "Of all answers; requests that wait for a result are in it.",
        [Query(quantile(0.99, "postjournal_gateway_request_duration_seconds", ROUTE))],
        kind="stat",
        unit="s",
        width=5,
        height=4,
    ),
    Panel(
        "Turned away",
        "Share of answers with 503: try again later. Alert: GatewayUnavailable.",
        [Query("max(job:postjournal_gateway_unavailable:ratio_rate1m)")],
        kind="stat",
        unit="percentunit",
        width=5,
        height=4,
        colours=((None, "green"), (0.01, "orange"), (0.05, "red")),
    ),
    Panel(
        "Errors",
        "Answers of 500 and such, but 503, in the time shown: bugs. Alert: GatewayErrors.",
        [
            Query(
                f'sum(increase({REQUESTS}{{{ROUTE},status=~"5..",status!="503"}}[$__range])) '
                "or vector(0)",
                instant=True,
            )
        ],
        kind="stat",
        width=5,
        height=4,
        decimals=0,
        colours=BAD_FROM_ONE,
    ),
    Panel(
        "Requests by answer",
        "Answered per second, by route and status.",
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
        "From a request's arrival in its handler to its answer.",
        quantiles("postjournal_gateway_request_duration_seconds", ROUTE, "route, ", "{{route}} "),
        unit="s",
    ),
    Panel(
        "Commands on their way into Kafka",
        "Per second. `unknown`: Kafka did not tell in time; the client repeats the request.",
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
        "Kafka's acknowledgement",
        "How long a request's commands took to be in all in-sync replicas' logs.",
        quantiles("postjournal_gateway_append_duration_seconds", ""),
        unit="s",
    ),
    Panel(
        "Waiting",
        "Requests that wait for their result, and commands not yet acknowledged by Kafka.",
        [
            Query("sum(postjournal_gateway_waiting_requests)", "requests waiting for results"),
            Query("sum(postjournal_gateway_unacknowledged_commands)", "commands under way"),
        ],
    ),
    Panel(
        "Process",
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
    description="What clients of the HTTP gateway see.",
    panels=PANELS,
    variables=ROUTES,
)
