"""Vigil in a user's own tests: the pytest plugin, a whole server in virtual time, a real one as a process.

Owns what a test sees of them.
Refuses to know any application that is tested.
"""
