"""`python -m postjournal.cli`: what the launcher runs."""

from postjournal.cli.main import main

main(prog_name="./postjournal")
