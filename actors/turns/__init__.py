"""Agent turns: one at a time for each session, beside its actor and never in its way.

Owns the queue of turns and what becomes of a turn at a restart.
Refuses to know how an agent makes its answer (`actors.agents`).
"""
