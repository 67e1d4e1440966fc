"""How long the tests go on: `make test` runs the small measure, `make prove` (VIGIL_PROVE=1) the long one.

Only sizes change between the two, never what is checked.
"""

import os

from hypothesis import HealthCheck, settings

PROVING = bool(os.environ.get("VIGIL_PROVE"))
PROVE_FACTOR = 20


def scaled(count: int) -> int:
    """`count`, or twenty times as many when proving."""
    return count * PROVE_FACTOR if PROVING else count


def examples(count: int) -> settings:
    """Settings of a property test: so many examples (see `scaled`), and no time limit on any one.

    Without VIGIL_PROVE the examples are the same in every run, so that a red build stays red.
    """
    return settings(
        max_examples=scaled(count),
        deadline=None,
        derandomize=not PROVING,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
