"""The simulated GitHub."""
