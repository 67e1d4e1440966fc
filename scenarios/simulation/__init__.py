"""`vigil simulate`: a day of people and faults around one server, in virtual time, from one seed.

Owns people, the run, its hash and its outcome.
Refuses to know which answers are right (`scenarios.model`).
"""
