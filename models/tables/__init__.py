"""Names of tables and columns, one module a subject."""
