"""What one run has shown: latencies, thresholds, the checks, the exit code and the report.

Owns every word and colour of a verdict.
Refuses to know how observations were made.
"""
