"""`vigil bench`: how fast Vigil is, as ratios to ceilings and peers of the same run.

Owns the rig that servers run on, rounds, figures and tables.
Refuses to judge: a figure is printed, never asserted.
"""
