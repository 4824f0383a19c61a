"""Everything that talks to Kafka; nothing else imports confluent_kafka."""
