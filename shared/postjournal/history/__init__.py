"""The state at an earlier point of the journal."""
