"""The embedded store: one SQLite file, one transaction and one fsync for all commits that wait.

Owns the file, its schema and migrations, the writer thread and the checkpoints.
Refuses to know why anything is written.
"""
