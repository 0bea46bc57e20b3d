"""The only SQL. Functions take the session first and never commit."""
