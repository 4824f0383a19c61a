"""Restores the state of a shard at an earlier point of its journal."""
