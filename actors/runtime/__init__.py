"""Live sessions: each one an actor, which is a Trio task with a mailbox and one deadline.

Owns actors, their directory, supervision, session time and the order commit, publish, reply.
Refuses to know the rules of a session's life (`actors.core`) and how a commit gets to disk (`actors.stores`).
"""
