"""`vigil load`: a server, Locust's processes and a verdict, from the command line to the exit code.

Owns processes and their end.
Refuses to know what a verdict is made of.
"""
