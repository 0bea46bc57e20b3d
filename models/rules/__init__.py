"""Pure decisions: mappings, verdicts, windows. No I/O, no clock."""
