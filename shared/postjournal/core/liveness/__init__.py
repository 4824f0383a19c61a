"""Who should lead: when a leader is suspected, and which replica should not lead."""
