"""Audits a real journal with code that is independent of the engine.

The auditor shares with the engine only the formats (journal records, status records, snapshot
manifests), the application interface and the function that assigns a key to a shard. It implements
the fold, the dedupe window, the decisions and the outputs a second time, from docs/protocol.md, so
that a bug of the engine cannot hide itself. An import contract in pyproject.toml enforces this.

Time is linear in the number of records. Memory is bounded by the application's state, the dedupe
window, one entry with its outputs, and the readers' queues (`kafka.settings.audit_consumer`).
"""
