"""Containers for up to a million sessions: an ordered index, a sharded dict, the tombstones.

Owns order, counts and what is forgotten when.
Refuses to know actors, tasks and stores.
"""
