"""`vigil doctor`: what is wrong with a machine or a server, and what to do about it.

Owns findings and how they are looked for.
Refuses to mend anything.
"""
