"""Written as coroutines. `_sync` is made from it: see clients/python/generate_sync.py."""
