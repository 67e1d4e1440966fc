"""The client as coroutines. All but `io.py` is the source of `_sync`: see `generate_sync.py`."""
