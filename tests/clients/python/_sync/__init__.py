"""Made from `_async`: see clients/python/generate_sync.py."""
