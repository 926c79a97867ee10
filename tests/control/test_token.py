"""The file with the token of a control surface."""

import os
from pathlib import Path

import pytest

from healthmsg.control.token import read_token
from healthmsg.errors import ConfigurationError

TOKEN = "t0ken-canary"


def token_file(folder: Path, content: bytes = f"{TOKEN}\n".encode(), mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_token_is_read_from_a_file_that_only_its_owner_can_read(tmp_path: Path, mode: int) -> None:
    assert read_token(token_file(tmp_path, mode=mode)) == TOKEN


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_token_that_others_can_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigurationError, match="chmod 600"):
        read_token(token_file(tmp_path, mode=mode))


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"two words", b"two\nlines", "tokén".encode(), b"\xff", b"a" * 5000]
)
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        read_token(token_file(tmp_path, content))
    assert "two" not in str(refusal.value)


def test_a_file_that_is_not_there_or_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigurationError) as refusal:
            read_token(path)
        assert refusal.value.__context__ is None
    if os.name == "posix":
        with pytest.raises(ConfigurationError, match="is no file"):
            read_token(Path(os.devnull))
