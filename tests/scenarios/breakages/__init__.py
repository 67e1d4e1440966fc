"""Rules of the spec, broken one at a time inside this process: what scripts and simulations must notice.

`with broken(BREAKAGES[name]):` breaks a rule and mends it again. A module for each part of the contract.
"""

from tests.scenarios.breakages import limits, messages, service, sessions
from tests.scenarios.breakages.breaking import BREAKAGES, Breakage, broken

__all__ = ["BREAKAGES", "Breakage", "broken", "limits", "messages", "service", "sessions"]
