"""How fast a server's time runs, as it says itself in a header, or as somebody has typed it. Pure."""

import math

HEADER = "Vigil-Time-Scale"  # absent from the answers of a server in real time


def time_scale(text: str) -> float | None:
    """The number above 0 that the text is; None for anything else."""
    try:
        scale = float(text)
    except ValueError:
        return None
    return scale if 0 < scale < math.inf else None
