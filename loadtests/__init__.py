"""Load against a server at a URL, and the verdict on what came back.

Owns people under Locust, the oracle of the limits and the benches.
Refuses to know the inside of the server that it loads.
"""
