"""Sample applications; the larger one is `postjournal.ledger`."""
