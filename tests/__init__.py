"""What Vigil promises, as tests. The folders mirror those of the product; `contract` holds the API to its contract."""

from pathlib import Path

ROOT = Path(__file__).parents[1]  # of the repository
