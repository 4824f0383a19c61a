"""The coordinator: snapshots asked for, scheduled, tried again, kept and deleted. Holds nothing."""
