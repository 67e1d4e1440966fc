"""The house keeps its size: files of at most 400 lines, folders of at most 15 files, and no circles of imports."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from tests import ROOT
from tests.calls import ROOMS

LINES_MAX = 400
FILES_MAX = 15
STILL_LONGER = {  # to be split; a file that is short enough again has to leave this list
    "scenarios/reports/timeline.js",
}
LARGE_FOLDERS = {"scenarios/library"}  # one script a rule, all in the folder that `vigil replay` is given
SUFFIXES = {".py", ".html", ".css", ".js"}


def files_of(*folders: str) -> list[Path]:
    found = (file for folder in folders for file in (ROOT / folder).rglob("*") if file.is_file())
    return sorted(file.relative_to(ROOT) for file in found if "__pycache__" not in file.parts)


def length(file: Path) -> int:
    return (ROOT / file).read_text().count("\n")


def test_no_file_is_longer_than_one_can_read_at_once() -> None:
    ours = [file for file in files_of(*ROOMS, "tests") if file.suffix in SUFFIXES]
    assert len(ours) > 300
    longer = {file.as_posix() for file in ours if length(file) > LINES_MAX}
    assert longer - STILL_LONGER == set(), "split them"
    assert STILL_LONGER - longer == set(), "they are short enough: take them off the list"


def test_no_folder_holds_more_than_one_can_see_at_once() -> None:
    folders = [file.parent.as_posix() for file in files_of(*ROOMS, "tests")]
    assert {folder for folder in folders if folders.count(folder) > FILES_MAX} == LARGE_FOLDERS


# --- imports


def module_of(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(("vigil", *parts[: -1 if parts[-1] == "__init__" else None]))


MODULES = {module_of(file): file for file in files_of(*ROOMS) if file.suffix == ".py"}


def package_of(module: str) -> str:
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def imports_at_start(module: str) -> Iterator[str]:
    """The modules of ours that are imported together with this one; not those for type checkers, or for a function."""
    for node in ast.parse((ROOT / MODULES[module]).read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from (names & MODULES.keys()) or ({node.module} & MODULES.keys())
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & MODULES.keys()


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: set(imports_at_start(module)) for module in MODULES}
    assert sum(map(len, graph.values())) > 500
    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


STILL_IN_CIRCLES = (  # folders whose modules import each other's; a circle that is gone has to leave this list
    "actors.agents actors.agents.providers",
    "loadtests.bench loadtests.bench.measures",
    "loadtests.oracle loadtests.people loadtests.runner loadtests.verdict",
    "scenarios.model scenarios.model.rules",
    "scenarios.reports scenarios.simulation scenarios.simulation.faults scenarios.simulation.shrinking",
    "server.api server.cli server.docs server.front server.ops server.recording",
)


def within_reach(graph: dict[str, set[str]], start: str) -> set[str]:
    """What is imported from `start` on, by way of others too."""
    seen: set[str] = set()
    left = [start]
    while left:
        new = graph[left.pop()] - seen
        seen |= new
        left += new
    return seen


def test_folders_import_each_other_in_one_direction() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        others = {package_of(other) for other in imports_at_start(module)}
        graph.setdefault(package_of(module), set()).update(others - {package_of(module)})
    reach = {folder: within_reach(graph, folder) for folder in graph}
    circles = {
        " ".join(sorted(other.removeprefix("vigil.") for other in reach[folder] if folder in reach[other]))
        for folder in graph
        if folder in reach[folder]
    }
    assert circles == set(STILL_IN_CIRCLES)
