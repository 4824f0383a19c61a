"""The shared model of a running cluster: topic names, states, status records and their view."""
