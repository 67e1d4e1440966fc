"""The API over HTTP: requests become commands to actors, and answers become bytes.

Owns sockets, the route table, documentation and what an operator sees.
Refuses to know any rule about a session's life.
"""
