"""A shop that fits on a page: what the example tests test."""
