"""The HTTP API under `/api/v1`, except for the live page's event stream."""
