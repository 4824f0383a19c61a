"""The system in containers, run by Docker Compose."""
