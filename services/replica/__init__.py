"""The replica: the engine of every shard in one process, with its HTTP and its tripwire."""
