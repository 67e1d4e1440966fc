"""Exact rate limits: sliding windows of admitted requests for sessions, users and agents.

Owns what is admitted, charged and refused, and how long to wait.
Refuses to know what a request asks for and how a refusal is worded.
"""
