"""What somebody who runs a server sees: keys, files, logs, metrics, health, start and stop.

Owns the process around a site.
Refuses to know single requests.
"""
