"""81: what is installed is what was locked; nothing is fetched once the program runs."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("trading_pipeline", "assets", "sensors", "resources") for path in (ROOT / folder).rglob("*.py"))


def test_every_locked_dependency_has_one_version_and_the_hashes_of_its_files() -> None:
    locked = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text(encoding="utf-8").strip())
    assert len(locked) > 50
    for entry in locked:
        assert re.match(r"[A-Za-z0-9._\[\]-]+==[^\s;]+", entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry.splitlines()[0]


def test_both_installers_check_the_hashes() -> None:
    installs = [line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "requirements.lock &&" in line]
    assert len(installs) == 2
    for line in installs:
        assert "pip sync" in line or "pip install" in line
        assert "--require-hashes" in line


def test_nothing_installs_while_it_runs() -> None:
    installers = {"pip", "pip3", "uv", "ensurepip", "easy_install", "conda"}
    for path in SOURCES:
        words = {node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)}
        assert not words & installers, path
