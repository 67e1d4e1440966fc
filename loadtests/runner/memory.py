"""How much memory the target uses while it is loaded, when its process is known: samples and their slope."""

from pathlib import Path
from typing import Any

SETTLED = 0.25  # of the run, before which memory may grow: caches fill, people arrive
LOOKS_MIN = 45  # about a second apart; a shorter run says nothing

_PAGE_BYTES = 4096
_MB = 1_000_000
_HOUR_S = 3600


class Memory:
    """Resident memory of one process over time."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []  # seconds, bytes

    def look(self, pid: int, now_s: float) -> None:
        """Take one sample. A process that is not ours to see (pid 0, or no /proc here) gives none."""
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return
        self.add(now_s, pages * _PAGE_BYTES)

    def add(self, now_s: float, resident_bytes: float) -> None:
        self._samples.append((now_s, resident_bytes))

    @property
    def slope(self) -> float | None:
        """Bytes a second, by least squares over what came after the first quarter; None with too few samples."""
        settled = self._samples[int(len(self._samples) * SETTLED) :]
        if len(settled) < LOOKS_MIN:
            return None
        middle_s = sum(at for at, _ in settled) / len(settled)
        middle = sum(size for _, size in settled) / len(settled)
        spread = sum((at - middle_s) ** 2 for at, _ in settled)
        return sum((at - middle_s) * (size - middle) for at, size in settled) / spread if spread else None

    def text(self) -> str:
        """One line for a person."""
        slope = self.slope
        if slope is None:
            return "server memory: too few samples"
        first, last = self._samples[0][1] / _MB, self._samples[-1][1] / _MB
        return f"server memory: {first:.0f} MB to {last:.0f} MB, {slope * _HOUR_S / _MB:+.1f} MB an hour once settled"

    def to_json(self) -> dict[str, Any]:
        slope = self.slope
        return {
            "residentBytes": [round(size) for _, size in self._samples[:: max(1, len(self._samples) // 200)]],
            "bytesPerHour": None if slope is None else round(slope * _HOUR_S),
        }
