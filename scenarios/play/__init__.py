"""A script, step by step, against a target: virtual time, a URL, or a server process of its own.

Owns targets and the result of a play as values.
Refuses to know how results are shown (`scenarios.reports`).
"""
