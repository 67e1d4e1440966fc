"""`vigil doctor [URL]`: the machine and its settings, then a running server if there is a URL."""

import argparse
import ipaddress
import os
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import trio

from vigil.actors.core.errors import VigilError
from vigil.server.cli.command_line import add_place_arguments, typed_settings
from vigil.server.doctor import hard, machine, service
from vigil.server.doctor.findings import Finding, broken, exit_code, good, text, warning
from vigil.server.ops.data_dir import read_file
from vigil.server.ops.keys import clear_key_file
from vigil.server.settings import layers
from vigil.server.settings.loading import SettingsError, load_settings, unknown_variables
from vigil.server.settings.settings import Settings


class DoctorError(VigilError):
    """It cannot be run as it was typed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url", metavar="URL", nargs="?", default="", help="a server that runs; the key is VIGIL_API_KEY"
    )
    add_place_arguments(parser)
    parser.add_argument(
        "--agent", metavar="ID", default="agent-123", help="who gets a test message (agent-123)"
    )
    parser.add_argument(
        "--hard",
        action="store_true",
        default=False,
        help="also send what has killed servers of this kind; only to a server on this machine",
    )


def run(arguments: argparse.Namespace) -> int:
    url = urlsplit(arguments.url)
    if arguments.url and (url.scheme not in ("http", "https") or not url.hostname):
        raise DoctorError(f"{arguments.url!r} is not an http:// or https:// URL with a host")
    is_here = bool(arguments.url) and _is_loopback(url.hostname or "")
    if arguments.hard and (not is_here or url.scheme != "http"):
        raise DoctorError("--hard is for a server on this machine: give its URL, http://127.0.0.1:PORT")
    found: list[Finding] = []
    settings = _settings(arguments, found)
    if settings and (is_here or not arguments.url):
        _tell(found, machine.findings(settings))
    if arguments.url:
        trio.run(_ask, arguments, found, _key(settings if is_here else None))
    bad, doubtful = (sum(one.level == level for one in found) for level in ("broken", "warning"))
    print(
        f"{bad} broken, {doubtful} warning{'' if doubtful == 1 else 's'}, {len(found) - bad - doubtful} good"
    )
    return exit_code(found)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _settings(arguments: argparse.Namespace, found: list[Finding]) -> Settings | None:
    try:
        files = layers.read(vars(arguments).get("config"), os.environ)
        settings = load_settings(typed_settings(arguments), files.below)
    except SettingsError as error:
        _tell(
            found,
            (
                broken("settings", line, "vigil config; vigil serve --help")
                for line in str(error).splitlines()
            ),
        )
        return None
    doubts = [*unknown_variables(os.environ), *files.warnings]
    _tell(found, (warning("settings", line, "mend the name, or remove it") for line in doubts))
    if not doubts:
        _tell(found, iter([good("settings", "all of them can be used")]))
    return settings


def _key(settings: Settings | None) -> str:
    """VIGIL_API_KEY; for a server here also the key that it has made itself."""
    named = os.environ.get("VIGIL_API_KEY", "")
    if named or settings is None:
        return named
    if settings.api_key:
        return settings.api_key.get_secret_value()
    return (read_file(clear_key_file(settings.data_dir)) or b"").decode().strip()


async def _ask(arguments: argparse.Namespace, found: list[Finding], key: str) -> None:
    await _listen(found, service.findings(arguments.url, key, arguments.agent))
    if arguments.hard and not exit_code(found):
        await _listen(found, hard.findings(arguments.url, key, arguments.agent))


async def _listen(found: list[Finding], coming: AsyncIterator[Finding]) -> None:
    async for one in coming:
        _tell(found, iter([one]))


def _tell(found: list[Finding], coming: Iterator[Finding]) -> None:
    for one in coming:
        found.append(one)
        print(text([one]), flush=True)
