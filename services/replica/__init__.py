"""The replica: one process with the engine of every shard, an HTTP server and a tripwire."""
