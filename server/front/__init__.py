"""The ways in: bytes, a web framework's objects or plain values become requests for the gateway.

Owns the fast path, the Quart app, the events socket and the way in without bytes.
Refuses to know what a request asks for: `server.api` carries it out, the same for each.
"""
