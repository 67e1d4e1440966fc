"""Scripts, recordings and populations played against a server, in virtual time or at a URL.

Owns the language, the simulation and the reference model that judges it.
Refuses to know load and percentiles (`loadtests`).
"""
