"""Rendering for the terminal: startup progress, status tables, the cluster view."""
