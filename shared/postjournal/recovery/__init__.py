"""Which snapshot a replica starts from, and how one is decoded."""
