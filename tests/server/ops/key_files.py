"""What tests of keys and their directory share."""

import stat
from datetime import date
from pathlib import Path

TODAY = date(2026, 11, 22)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
