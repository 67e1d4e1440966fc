"""Sessions as actors: lifecycle, time, limits and durability. Knows nothing of HTTP."""
