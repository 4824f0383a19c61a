"""Load tests of the HTTP gateway, with locust."""
