"""Faults that benches and chaos runs inject into a running system."""
