"""What we keep and what it means: records, tables, the only SQL, and pure rules and measures.

Imports nothing else of ours and works without Celery or a network.
"""
