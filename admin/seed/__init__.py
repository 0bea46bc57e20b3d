"""A believable company, made up: pure generators of rows, the same for the same plan. No SQL, no clock."""
