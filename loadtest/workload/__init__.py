"""Commands to send, and what becomes of them."""
