"""Tracing one command through its source, the journal and the sinks."""
