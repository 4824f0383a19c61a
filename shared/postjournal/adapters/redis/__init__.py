"""Clients of Redis: the cluster view and the balances projection."""
