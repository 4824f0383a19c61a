"""The commands of `./postjournal`."""
