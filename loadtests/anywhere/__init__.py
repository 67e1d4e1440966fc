"""The proof of limits for any HTTP API: a profile says what is limited, and requests show whether it is.

Owns the profile's language, its traffic and its verdict.
Refuses to know the Sessions API; needs neither Locust nor gevent.
"""
