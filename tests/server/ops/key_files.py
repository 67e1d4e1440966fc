"""What tests of keys and their directory share."""

import stat
from datetime import UTC, date, datetime
from pathlib import Path

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
