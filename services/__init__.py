"""The services, each thin: parse, wire, serve."""
