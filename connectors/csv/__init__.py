"""Files of comma-separated values, written by people and spreadsheets, to records."""
