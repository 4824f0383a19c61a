"""The world: Kafka, Redis, sockets, clocks."""
