"""The auditor of a real journal, written apart from the engine.

It shares with the engine the record types, the application interface and the function that
picks a key's shard, and nothing else: the fold, the dedupe window, the decisions and the outputs
are worked out a second time here, from design.md. A test keeps it so.

Time is linear in the records. Memory is bounded by the application's state, the dedupe window,
one entry with its outputs, and the readers' queues (`kafka_settings.audit_consumer`).
"""
