"""The Python client, on both fronts, through a proxy that does harm."""
