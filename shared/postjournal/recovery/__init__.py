"""Chooses the snapshot that a replica starts from, and decodes it."""
