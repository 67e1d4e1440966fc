"""A failing day, cut down to the shortest that still fails, and written as a scenario.

Owns the search and the script that it ends in.
Refuses to know why the day failed.
"""
