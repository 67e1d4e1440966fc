"""Virtual time: a whole server inside this process, and runs that go the same way every time.

Owns Trio's private names that make runs deterministic.
Refuses to know scripts, people and judges.
"""
