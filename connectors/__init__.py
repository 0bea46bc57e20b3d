"""The outside: HTTP and vendor payloads to records. No SQL, no Celery, no sleeping."""
