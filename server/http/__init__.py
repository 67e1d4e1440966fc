"""Sockets and protocols: listening, TLS, HTTP/1.1, HTTP/2 and WebSockets, made strict and fair.

Owns every deadline, size and budget of a connection.
Refuses to know what a request asks for.
"""
