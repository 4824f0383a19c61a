"""What the rows of `tests/contract/test_kafka_errors.py` promise, as checks."""
