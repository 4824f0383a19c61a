"""The services. Each only parses requests, wires parts together and serves HTTP or metrics."""
