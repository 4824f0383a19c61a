"""The operating system: processes, threads, sockets, clocks."""
