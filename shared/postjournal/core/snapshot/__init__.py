"""What a snapshot contains, how it is laid out, and when one is taken."""
