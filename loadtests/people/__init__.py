"""The people of a load test: who they are, how often they come, and the connection of each.

Owns Locust's user classes, the mixes and the open model of pacing.
Refuses to judge answers (`loadtests.oracle`, `loadtests.verdict`).
"""
