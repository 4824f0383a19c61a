"""The dashboards as code: `python -m grafana` writes `dashboards/*.json`, which Grafana loads."""
