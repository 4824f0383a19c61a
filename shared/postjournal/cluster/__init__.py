"""What services and tools know of a running cluster: topics, status records, the view of them."""
