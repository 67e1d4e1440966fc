"""Measured figures. Each module here is a command: `python -m loadtests.bench.NAME`."""
