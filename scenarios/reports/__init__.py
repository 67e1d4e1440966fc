"""Plays and simulations for people and for CI: text, JUnit, timelines, pages.

Owns templates, styles and plots.
Refuses to judge anything.
"""
