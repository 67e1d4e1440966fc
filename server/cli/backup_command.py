"""`vigil backup FILE`: what was typed, and what is said of it. The backup itself is `server.ops.backup`'s."""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from vigil.server.cli.command_line import add_place_arguments, add_store_argument, typed_place
from vigil.server.ops import backup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the backup to write; it must not exist")
    add_place_arguments(parser)
    add_store_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    data_dir, store = typed_place(arguments, os.environ)
    database = backup.database_in_use(data_dir, store)
    made = backup.make(arguments.file, data_dir, database, now=datetime.now(UTC))
    size = sum(member.bytes for member in made.files.values())
    print(f"{arguments.file}: {_counted(made.sessions)}, the token secret and the API keys; {size:,} bytes")
    return 0


def _counted(sessions: int) -> str:
    return f"{sessions:,} session{'' if sessions == 1 else 's'}"
