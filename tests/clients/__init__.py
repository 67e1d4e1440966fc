"""Clients against real servers."""
