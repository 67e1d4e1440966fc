"""What came in and went out, noted in the event loop and written by a process of its own.

Owns the lines of a recording and what must not stand in them.
Refuses to know how a recording is replayed (`scenarios.replay`).
"""
