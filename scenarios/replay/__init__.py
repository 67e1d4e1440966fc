"""`vigil replay`: scripts and recordings from the command line, and how a recording is played again.

Owns what is typed and printed, and the timing of what was recorded.
Refuses to know how a server writes a recording (`server.recording`).
"""
