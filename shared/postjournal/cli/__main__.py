"""`python -m postjournal.cli`, which the launcher runs."""

from postjournal.cli.commands.completion import COMPLETE_VARIABLE
from postjournal.cli.main import main

main(prog_name="./postjournal", complete_var=COMPLETE_VARIABLE)
