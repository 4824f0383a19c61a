"""The command line: `./postjournal`."""
