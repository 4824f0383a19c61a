"""Load on the HTTP gateway, with locust."""
