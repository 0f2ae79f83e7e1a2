"""What was installed is what was promised: a plugin, a command, types, and nothing of Twisted's own. Runs on an editable install and on a wheel."""

from __future__ import annotations

import ast
import importlib.metadata
import pkgutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import twisted_smtplite

PACKAGE = Path(twisted_smtplite.__file__).parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(PACKAGE)], "twisted_smtplite."))
WAYS = {
    "twistd": [str(SCRIPTS / "twistd"), "smtplite"],
    "twist": [str(SCRIPTS / "twist"), "smtplite"],
    "smtplite": [str(SCRIPTS / "smtplite")],
    "python -m": [sys.executable, "-m", "twisted_smtplite"],
}


def run(arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=directory, capture_output=True, text=True, timeout=50)


@pytest.mark.parametrize("program", ["twistd", "twist"])
def test_the_plugin_is_shown_from_any_directory(program: str, tmp_path: Path) -> None:
    shown = run([str(SCRIPTS / program), "--help"], tmp_path)
    assert "smtplite" in shown.stdout


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_start_has_the_same_options(way: str, tmp_path: Path) -> None:
    shown = run([*WAYS[way], "--help"], tmp_path)
    assert shown.returncode == 0, shown.stderr
    for option in ("--port", "--interface", "--listen", "--delivery", "--max-size"):
        assert option in shown.stdout


def test_the_version_is_the_distributions() -> None:
    assert importlib.metadata.version("twisted-smtplite") == twisted_smtplite.__version__


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_nothing_of_twisteds_own_is_shipped() -> None:
    # Installing such a file overwrites Twisted's, and uninstalling it breaks Twisted.
    ours = [str(path) for path in importlib.metadata.files("twisted-smtplite") or ()]
    assert [name for name in ours if name.startswith("twisted/") and name.endswith("__init__.py")] == []


def test_requirements_are_twisted_and_zope_interface_only() -> None:
    required = importlib.metadata.requires("twisted-smtplite") or []
    core = [requirement.split(">")[0].lower() for requirement in required if "extra ==" not in requirement]
    assert sorted(core) == ["twisted[tls]", "zope.interface"]


def test_importing_everything_installs_no_reactor(tmp_path: Path) -> None:
    modules = [name for name in MODULES if not name.endswith("__main__")]
    program = f"import sys\nfor name in {modules!r}: __import__(name)\nassert 'twisted.internet.reactor' not in sys.modules"
    done = run([sys.executable, "-c", program], tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_global_reactor_is_named_where_commands_run_and_where_a_caller_may_leave_it_out() -> None:
    naming = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "twisted.internet" and any(name.name == "reactor" for name in node.names):
                naming.add(path.relative_to(PACKAGE).as_posix())
    assert naming <= {"app/running.py", "app/serve.py", "app/tap.py", "client/send.py"}
