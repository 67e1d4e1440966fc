"""The command line: parsers, completion, numbers, and how every command ends.

Owns exit codes and the words of refusals.
Refuses to know what a command does.
"""
