"""The oracle: proves from outside whether a server keeps its limits exactly.

Owns the log of observations, the windows as clients can know them, and the proofs.
Shares no code with actors, knows no Locust and starts nothing.
"""
