"""Writes the tables of docs/reference that the code already knows: limits, options, errors, and which transcript shows which clause.

`python docs/generate.py` rewrites the pages; `--check` only says which are out of date, and fails if any is. What stands between
``<!-- generated: NAME -->`` and ``<!-- end -->`` is ours, the rest of a page is not.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import fields
from enum import Enum
from io import StringIO
from pathlib import Path

from twisted_smtplite.app.cli import main as smtplite
from twisted_smtplite.app.commands import COMMANDS
from twisted_smtplite.app.options import Options
from twisted_smtplite.client.pool import PoolLimits
from twisted_smtplite.model import errors
from twisted_smtplite.model.clientprofile import ClientLimits, TLSUse
from twisted_smtplite.model.limits import Limits
from twisted_smtplite.model.mxlimits import MXLimits
from twisted_smtplite.model.results import Stage

DOCS = Path(__file__).parent
TRANSCRIPTS = DOCS.parent / "tests" / "transcripts"


def limits() -> str:
    """One row per field of `Limits` that has an option."""
    rows = ["| field | option | default | least | unit | what it bounds |", "|---|---|---|---|---|---|"]
    for row in fields(Limits):
        if row.metadata:
            option, unit, meaning, least = (row.metadata[key] for key in ("option", "unit", "meaning", "least"))
            rows.append(f"| `{row.name}` | `--{option}` | {row.default:,} | {least:,} | {unit} | {meaning} |")
    return "\n".join(rows)


def options() -> str:
    """What `twistd smtplite --help` prints."""
    return f"```text\n{Options().getUsage(width=110).strip()}\n```"


def clauses() -> str:
    """One row per section of an RFC that a remark of a transcript names (``# RFC 5321 4.5.2: ...``), in the order of the RFCs."""
    shown: defaultdict[str, set[str]] = defaultdict(set)
    for path in TRANSCRIPTS.rglob("*.smtp"):
        name = path.relative_to(TRANSCRIPTS).as_posix()
        link = f"[{name.removesuffix('.smtp')}](../../tests/transcripts/{name})"
        for cited in re.findall(r"^# (RFC \d.*?)[:;] ", path.read_text(), re.MULTILINE):
            for clause in sections(cited):
                shown[clause].add(link)
    rows = [f"| RFC {clause} | {', '.join(sorted(shown[clause]))} |" for clause in sorted(shown, key=clauseOrder)]
    return "\n".join(["| clause | transcripts |", "|---|---|", *rows])


def documented(described: type) -> dict[str, str]:
    """The names that a class gives values to -> the texts below them, as one line; empty where there is none."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(described)).body if isinstance(node, ast.ClassDef))
    found: dict[str, str] = {}
    for before, node in zip([None, *body], body, strict=False):
        if isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            assert isinstance(target, ast.Name)
            found[target.id] = ""
        elif isinstance(before, ast.AnnAssign | ast.Assign) and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[list(found)[-1]] = " ".join(str(node.value.value).split())
    return found


def fieldsOf(described: type) -> Callable[[], str]:
    """One row per field of a class of waits and counts that has no options."""

    def table() -> str:
        texts = documented(described)
        rows = [f"| `{row.name}` | {row.default:,} | {texts[row.name]} |" for row in fields(described)]
        return "\n".join(["| field | default | |", "|---|---|---|", *rows])

    return table


def members(described: type[Enum]) -> Callable[[], str]:
    """One row per member of an enumeration."""
    return lambda: "\n".join(["| | |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in documented(described).items())])


def exceptions() -> str:
    """One row per exception of the client."""
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, errors.SMTPClientError)]
    rows = [f"| `{kind.__name__}` | {' '.join(inspect.getdoc(kind).split(chr(10) * 2)[0].split())} |" for kind in kinds]
    return "\n".join(["| exception | |", "|---|---|", *rows])


def sections(cited: str) -> list[str]:
    """``RFC 5321 4.1.1.4, 2.3.8`` -> ``5321 4.1.1.4`` and ``5321 2.3.8``; ``4.1.1.6 to 4.1.1.9`` stays one."""
    found, rfc = [], ""
    for part in cited.split(", "):
        named = re.fullmatch(r"(?:RFC (\d+) )?(.*)", part)
        assert named is not None
        rfc = named[1] or rfc
        found.append(f"{rfc} {named[2]}")
    return found


def clauseOrder(clause: str) -> list[tuple[int, str]]:
    """Sorts ``5321 4.5.2`` before ``5321 4.10``, and appendices last."""
    return [(int(part), "") if part.isdigit() else (1000, part) for part in re.findall(r"\w+", clause)]


def helpOf(command: str) -> Callable[[], str]:
    """What `smtplite COMMAND --help` prints in a wide terminal."""

    def shown() -> str:
        os.environ["COLUMNS"] = "110"
        with redirect_stdout(StringIO()) as printed, suppress(SystemExit):
            smtplite([command, "--help"])
        return f"```text\n{printed.getvalue().rstrip()}\n```"

    return shown


TABLES: dict[str, Callable[[], str]] = {
    "limits": limits,
    "options": options,
    **{command: helpOf(command) for command in COMMANDS if command != "serve"},
    "clauses": clauses,
    "clientlimits": fieldsOf(ClientLimits),
    "poollimits": fieldsOf(PoolLimits),
    "mxlimits": fieldsOf(MXLimits),
    "tls": members(TLSUse),
    "stages": members(Stage),
    "exceptions": exceptions,
}


def renew(page: str) -> str:
    """The text of a page with its generated parts made anew."""
    return re.sub(
        r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: found[1] + TABLES[found[2]]() + "\n" + found[3],
        page,
        flags=re.DOTALL,
    )


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    stale = 0
    for path in sorted((DOCS / "reference").glob("*.md")):
        old = path.read_text()
        new = renew(old)
        if new == old:
            continue
        if check:
            print(f"{path} is out of date: run python docs/generate.py")
            stale += 1
        else:
            path.write_text(new)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
