"""The live page: shards, replicas, failovers and snapshots, updated over server-sent events."""
