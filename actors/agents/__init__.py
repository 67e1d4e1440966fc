"""Who answers: one module for each kind of agent, and the catalogue that names them.

Owns agents.yaml, the providers' protocols, their retries and time-outs.
Refuses to know queues of turns, stores and listeners.
"""
