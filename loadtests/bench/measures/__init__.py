"""One module for each thing that is measured: `python -m vigil.loadtests.bench.measures.NAME`.

Owns what is done to the server and which figures come of it.
Refuses to know how figures are shown (`loadtests.bench.tables`).
"""
