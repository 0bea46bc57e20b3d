"""Pure domain numbers with units. No I/O, no clock."""
