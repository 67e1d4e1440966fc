"""Who asks, as servers' logs show it."""

from importlib.metadata import version

VERSION = version("vigil-client")
USER_AGENT = f"vigil-client/{VERSION}"
