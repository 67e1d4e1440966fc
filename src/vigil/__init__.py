"""Vigil: a Sessions API server where every live session is a Trio task.

The folders `actors`, `server`, `scenarios` and `loadtests` of the repository are this package's subpackages, by links
beside this file: nothing of Vigil is installed under a name that a user's own folder may have.
"""
