"""The Kafka clients of one engine."""
