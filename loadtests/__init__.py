"""Load against a server at a URL, and the verdict on what came back."""
