"""Sessions, time and durability: everything about a session's life is decided here.

Owns sessions, limits, turns, events and stores. Refuses to know HTTP, and whoever sends the commands.
"""
