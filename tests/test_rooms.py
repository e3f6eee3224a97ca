"""The walls between the rooms, where import-linter cannot see: what is loaded at run time, and how large things are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "hwdash"
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "numpy", "accelerate", "gguf", "huggingface_hub"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50


def loaded_after(code: str) -> set[str]:
    """The top-level modules in ``sys.modules`` after *code* ran in a fresh interpreter."""
    script = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "hwdash.cli.main",
        "hwdash.client.http",
        "hwdash.tui.app",
        "hwdash.daemon.process",
        "hwdash.daemon.app",
        "hwdash.engine.supervisor",
        "hwdash.monitor.monitor",
        "hwdash.store.store",
    ],
)
def test_no_torch_outside_the_worker(module: str) -> None:
    assert not loaded_after(f"import {module}") & HEAVY


@pytest.mark.parametrize(
    "module", ["hwdash.cli.main", "hwdash.client.http", "hwdash.daemon.process", "hwdash.daemon.app"]
)
def test_headless_modules_load_no_textual(module: str) -> None:
    assert not loaded_after(f"import {module}") & {"textual", "rich"}


def test_the_command_line_loads_no_server() -> None:
    assert not loaded_after("import hwdash.cli.main") & {
        "fastapi",
        "uvicorn",
        "pydantic",
        "aiosqlite",
        "psutil",
        "pynvml",
    }


def test_the_dashboard_loads_no_server_and_no_driver() -> None:
    assert not loaded_after("import hwdash.tui.app") & {
        "fastapi",
        "uvicorn",
        "pydantic",
        "aiosqlite",
        "psutil",
        "pynvml",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_can_be_held_in_the_head(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_modules_for_odds_and_ends(path: Path) -> None:
    assert path.stem not in {"utils", "util", "manager", "common", "helpers", "misc"}
