"""Faults that benches, chaos runs and the demo inject into a running system."""
