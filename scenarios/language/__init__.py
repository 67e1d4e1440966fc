"""The language of scenario files: what a script may say, and what an expectation means.

Owns models, positions of errors, matchers, paths and durations.
Refuses to know servers and time that passes.
"""
