"""The rules of a session's life as pure functions, and the values that all rooms hand each other.

Owns the expiry formula, the transition table, events, errors and quotas.
Refuses to know tasks, clocks, stores and how long anything takes.
"""
