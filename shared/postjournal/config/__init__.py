"""Environment variables: their declarations, their values, their reference page."""
