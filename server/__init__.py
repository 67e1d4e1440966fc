"""The Sessions API over HTTP: turns requests into asks and answers into bytes. Holds no session state."""
