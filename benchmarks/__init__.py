"""Speed as a ratio to a named limit, measured in the same run on the same machine."""
