"""Commands to send, their results, and the checks of both."""
