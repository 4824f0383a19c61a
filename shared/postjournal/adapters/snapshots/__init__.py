"""Snapshots in an object store: taking, uploading, listing, restoring."""
