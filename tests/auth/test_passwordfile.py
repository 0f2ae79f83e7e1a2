"""The password file: read, read again, replaced."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from auth.rooms import cheap, cheapKeys, passwordFile

from twisted_smtplite.auth.passwordfile import PasswordFile, Users, change


def test_users_and_remarks(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"# who\n\ntim:{cheap('a')}\njürgen b@x:{cheap('b')}\n")
    assert set(PasswordFile(str(path)).users().stored) == {"tim", "jürgen b@x"}


@pytest.mark.parametrize("line", ["tim", "tim:", "tim:secret", ":$scrypt$", "t\tim:$scrypt$x", "\u2168:$scrypt$x", "a:$scrypt$x\na:$scrypt$x"])
def test_a_malformed_line_is_named_and_not_shown(line: str) -> None:
    with pytest.raises(ValueError, match=r"^line [23]: ") as caught:
        Users(f"# who\n{line}\n")
    assert "secret" not in str(caught.value)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "users"
    file = passwordFile(path, tim=cheap("a"))
    assert file.users() is file.users()
    change(str(path), lambda users: users.set("tom", cheap("b")))
    assert set(file.users().stored) == {"tim", "tom"}
    change(str(path), lambda users: users.set("tim", None))
    assert set(file.users().stored) == {"tom"}


def test_a_file_that_is_gone_or_broken_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "users"
    file = passwordFile(path, tim=cheap("a"))
    path.write_text("tim:nonsense and more of it\n")
    for _ in range(2):
        with pytest.raises(ValueError, match="line 1"):
            file.users()
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file.users()


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "users"
    change(str(path), lambda users: users.set("tim", cheap("a")))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["users"]


def test_a_file_that_is_there_keeps_its_mode_and_its_remarks(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"# ours\ntim:{cheap('a')}\n# end")
    path.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(path)
    change(str(link), lambda users: users.set("tom", cheap("b")))
    change(str(link), lambda users: users.set("tim", cheap("c")))
    assert link.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o640
    lines = path.read_text().splitlines()
    assert [line for line in lines if not line.startswith("# decoys")] == [
        "# Users of twisted-smtplite, written by `smtplite passwd`.",
        "# ours",
        f"tim:{cheap('c')}",
        "# end",
        f"tom:{cheap('b')}",
    ]


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "users"
    passwordFile(path, tim=cheap("a"))
    before = path.read_bytes()
    with pytest.raises(KeyError):
        change(str(path), lambda users: users.set("tom", None))
    path.write_text("nonsense\n")
    with pytest.raises(ValueError, match="line 1"):
        change(str(path), lambda users: users.set("tom", cheap("b")))
    assert before and path.read_text() == "nonsense\n" and [each.name for each in tmp_path.iterdir()] == ["users"]


def test_who_is_not_there_gets_the_same_answers_again_and_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "users"
    for number in range(5):
        change(str(path), lambda users, number=number: users.set(f"user{number}", cheapKeys(str(number))))
    first, again = PasswordFile(str(path)).users(), PasswordFile(str(path)).users()
    for user in ("nobody", "none"):
        assert first.decoyKeys(user) == again.decoyKeys(user)
        assert first.decoy(user) == again.decoy(user)
    assert first.decoyKeys("nobody") != first.decoyKeys("none")
    # Nothing tells them from what users have.
    real, fake = first.keys("user1"), first.decoyKeys("nobody")
    assert real is not None
    assert (len(fake.salt), len(fake.storedKey), len(fake.serverKey), fake.iterations) == (len(real.salt), 32, 32, real.iterations)


def test_an_empty_file_has_decoys_too() -> None:
    users = Users("")
    assert users.decoy("nobody") is None
    assert users.decoyKeys("nobody").iterations == 4096
    assert not users.allHaveKeys


def test_scram_is_for_files_whose_users_all_have_keys() -> None:
    assert Users(f"a:{cheapKeys('a')}\n").allHaveKeys
    assert not Users(f"a:{cheapKeys('a')}\nb:{cheap('b')}\n").allHaveKeys
