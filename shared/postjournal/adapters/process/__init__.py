"""Ports to the operating system: processes, threads, sockets, clocks."""
