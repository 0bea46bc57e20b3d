"""What runs: thin tasks, the order of steps and the transaction edges, one module a verb."""
