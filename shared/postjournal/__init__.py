"""Postjournal keeps a stateful Python service alive on Apache Kafka."""
