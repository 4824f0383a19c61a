"""The coordinator: orders snapshots, retries and retains them, and serves the cluster's HTTP API.

It stores nothing itself: its state is in Kafka's control and status topics and the snapshot store.
"""
