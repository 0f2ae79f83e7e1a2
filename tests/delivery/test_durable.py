"""Names that are safe, directories and drafts: what stores are built of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailfiles import HOSTILE

from twisted_smtplite.delivery.durable import Draft, makeDirectory, safeName


@pytest.mark.parametrize("text", HOSTILE)
def test_a_safe_name_is_a_plain_file_name(text: str) -> None:
    name = safeName(text)
    assert 0 < len(name.encode("ascii")) <= 255
    assert not name.startswith(".")
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+=@-%~")


@given(st.text(), st.text())
def test_different_texts_have_different_safe_names(one: str, other: str) -> None:
    assert (safeName(one) == safeName(other)) is (one == other)


def test_long_texts_that_differ_at_the_end_have_different_safe_names() -> None:
    assert safeName("x" * 300 + "1") != safeName("x" * 300 + "2")
    assert len(safeName("x" * 300)) == 255


def test_plain_names_stay_as_they_are() -> None:
    assert safeName("Ben.Jr+list=a_b-c@d") == "Ben.Jr+list=a_b-c@d"


def test_a_draft_is_made_for_its_owner_and_never_follows_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        Draft(str(tmp_path / "link"), str(tmp_path / "final"))


@pytest.mark.parametrize("answers", [[FileNotFoundError, FileExistsError], [FileExistsError]])
def test_a_directory_that_somebody_else_makes_meanwhile_will_do(answers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.mkdir

    def mkdir(path: str, mode: int) -> None:
        if path.endswith("theirs"):
            raise answers.pop(0)
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    makeDirectory(str(tmp_path / "theirs"))
    assert answers == []
