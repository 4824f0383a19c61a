"""The live page: shards and replicas as they are, failovers as they happen, buttons, a query."""
