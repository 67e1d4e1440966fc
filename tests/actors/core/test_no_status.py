"""Errors of the actors room say what happened; which HTTP status that is, is a table of the server's."""

import ast
from pathlib import Path

import pytest

from tests import ROOT
from vigil.actors.core import errors

HTTP_FREE = sorted({*(ROOT / "actors").rglob("*.py")} - {*(ROOT / "actors" / "agents").rglob("*.py")})
ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_carries_no_status(kind: type) -> None:
    assert not [name for name in dir(kind) if "status" in name]


def _statuses(path: Path) -> list[int]:
    """Numbers that are an HTTP status of an error, in the code of a file. 500 and 512 are sizes too: not these."""
    statuses = {400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 429, 502, 503, 504}
    constants = [one.value for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, ast.Constant)]
    return [value for value in constants if type(value) is int and value in statuses]


def test_no_file_beside_the_agents_has_a_number_that_is_a_status() -> None:
    """An agent's provider answers with HTTP statuses, so `agents` may read them."""
    assert {path.name: found for path in HTTP_FREE if (found := _statuses(path))} == {}
