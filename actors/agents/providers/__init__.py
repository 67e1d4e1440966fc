"""What the protocols of model servers have in common, and the providers that have one of their own.

Owns their requests and events. Refuses to know connections, retries and turns.
"""
