"""Scripts and populations played against a server, in virtual time or at a URL."""
