"""Load on the gateway, with locust: see `loadtest/locustfile.py`."""
