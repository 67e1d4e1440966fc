"""`vigil restore FILE`: what was typed, and what is said of it. Restoring itself is `server.ops.restoring`'s."""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from vigil.server.cli.command_line import add_place_arguments, add_store_argument, typed_place
from vigil.server.ops import backup, restoring


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="a file that vigil backup has written")
    add_place_arguments(parser)
    add_store_argument(parser)
    parser.add_argument(
        "--force", action="store_true", default=False, help="replace data that is there; it is moved aside"
    )


def run(arguments: argparse.Namespace) -> int:
    data_dir, store = typed_place(arguments, os.environ)
    database = backup.database_of(data_dir, store)
    restored, aside = restoring.restore(
        arguments.file, data_dir, database, force=arguments.force, now=datetime.now(UTC)
    )
    print(f"{data_dir}: {restored.sessions:,} sessions as of {restored.made:%Y-%m-%d %H:%M:%SZ}")
    if aside:
        print(
            f"What was there before is in {aside}. Delete it when you no longer need it: it holds messages and keys"
        )
    return 0
