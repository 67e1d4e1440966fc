"""The client as plain functions. All but `io.py` is made from `_async`: see `generate_sync.py`."""
