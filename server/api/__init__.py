"""The operations: the route table, the order of checks, and what each operation does and answers.

Owns status codes, error bodies, credentials and the JSON of every answer.
Refuses to know sockets and frameworks.
"""
