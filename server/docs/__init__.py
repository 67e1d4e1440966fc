"""The documentation, made from the route table: OpenAPI, the page, the Postman collection.

Owns examples and their rendering.
Refuses to know how a request is served.
"""
