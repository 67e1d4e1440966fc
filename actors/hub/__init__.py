"""Who receives an event, from which id on, and who is disconnected because they do not read.

Owns subscriptions and the events that are kept for those who come back.
Refuses to know sockets and what an event means.
"""
