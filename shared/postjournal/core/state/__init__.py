"""The replicated state of a shard: state machine, dedupe window, outboxes."""
