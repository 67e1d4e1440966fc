"""What can be wrong with what a person asks of this room. The command line prints each and exits with 2.

VigilError
  ScenarioError        the root
"""

from vigil.actors.core.errors import VigilError


class ScenarioError(VigilError):
    """The root."""
