"""The client's transcripts, each played in every way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from clientplayer import ClientPlayer, Scene, parse

_SCENES = [scene for path in sorted((Path(__file__).parent / "transcripts/client").glob("*.smtp")) for scene in parse(path.read_text(), path)]


@pytest.mark.parametrize("cuts", ["whole", "bytes", "cuts1", "cuts2"])
@pytest.mark.parametrize("scene", _SCENES, ids=lambda scene: scene.name)
def test_the_client_keeps_to_the_dialogue(scene: Scene, cuts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ClientPlayer(scene, cuts, monkeypatch).play()


@pytest.mark.parametrize("scene", _SCENES, ids=lambda scene: scene.name)
def test_each_dialogue_names_the_rule_that_it_shows(scene: Scene) -> None:
    assert re.fullmatch(r"(?:RFC \d{4}[ \d.A-Z,]*(?:\(\d+\))?|smtplite): .*\.", scene.title), scene.title
