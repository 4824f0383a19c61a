"""All services as local processes under supervisord, on a real Kafka and a real Redis."""
