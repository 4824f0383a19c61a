"""The commands of `./postjournal` that fit into one module each."""
