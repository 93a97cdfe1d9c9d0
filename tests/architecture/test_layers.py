"""The layer rules of docs/ARCHITECTURE.md, and the checks of `make check`, as tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from nightshift.settings import PROJECT

BIN = Path(sys.executable).parent
ROOMS = ("nightshift", "training", "serving", "monitoring", "feature_repo")
CHECKS = {
    "ruff": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "types": ["mypy"],
    "layers": ["lint-imports"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_make_check_passes(name: str) -> None:
    program, *arguments = CHECKS[name]
    done = subprocess.run(
        [BIN / program, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def test_make_check_runs_what_is_tested_here() -> None:
    rules = (PROJECT / "Makefile").read_text()
    for command in CHECKS.values():
        assert "$(BIN)/" + " ".join(command) in rules


def module_level_imports(path: Path) -> set[str]:
    """Names of the modules that importing this file imports (functions and `if TYPE_CHECKING` left out)."""
    found: set[str] = set()
    todo: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Try | ast.With | ast.ClassDef):
            todo.extend(ast.iter_child_nodes(node))
    return found


def test_only_the_registry_imports_mlflow_at_module_level() -> None:
    # A predictor travels inside a packaged model, where MLflow is what loads it.
    allowed = {"nightshift/registry.py"}
    importing = {
        str(path.relative_to(PROJECT))
        for room in ROOMS
        for path in (PROJECT / room).rglob("*.py")
        if not path.name.endswith("predictor.py")
        and any(name.partition(".")[0] == "mlflow" for name in module_level_imports(path))
    }
    assert importing == allowed


def test_dags_import_only_airflow_the_vocabulary_and_the_names_of_families() -> None:
    allowed = {"airflow", "nightshift", "steps", *sys.stdlib_module_names}
    for path in (PROJECT / "dags").glob("*.py"):
        for name in module_level_imports(path):
            assert name.partition(".")[0] in allowed or name == "training.families", f"{path.name}: {name}"


def test_a_packaged_predictor_imports_neither_torch_nor_this_project() -> None:
    predictors = list((PROJECT / "training").rglob("*predictor.py"))
    assert predictors
    for path in predictors:
        roots = {name.partition(".")[0] for name in module_level_imports(path)}
        assert not roots & {"torch", *ROOMS}, path
