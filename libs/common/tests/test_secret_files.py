"""Settings from the files of SECRETS_FOLDER."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.settings import InvalidSetting, read_secret_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the secrets. The environment is that of before when the test ends."""
    for name in ("SECRET_OF_A_FILE", "SECRET_THAT_IS_SET", "SECRET_THAT_IS_EMPTY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("SECRETS_FOLDER", str(tmp_path))
    return tmp_path


def test_each_file_sets_the_variable_of_its_name(folder: Path) -> None:
    (folder / "secret_of_a_file").write_text("  content of ü\n")
    read_secret_files()
    assert os.environ["SECRET_OF_A_FILE"] == "content of ü"


def test_a_variable_that_is_set_stays_and_an_empty_file_sets_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_THAT_IS_SET", "of the environment")
    (folder / "secret_that_is_set").write_text("of the file")
    (folder / "secret_that_is_empty").write_text("\n")
    (folder / ".secret_of_a_file").write_text("hidden")
    (folder / "a_folder").mkdir()
    read_secret_files()
    assert os.environ["SECRET_THAT_IS_SET"] == "of the environment"
    assert "SECRET_THAT_IS_EMPTY" not in os.environ
    assert ".SECRET_OF_A_FILE" not in os.environ


def test_a_missing_folder_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = str(folder / "missing")
    monkeypatch.setenv("SECRETS_FOLDER", missing)
    with pytest.raises(InvalidSetting, match=re.escape(f"SECRETS_FOLDER: {missing}: No such file")):
        read_secret_files()


@pytest.mark.parametrize("arguments", [("contacts", "api"), ("common", "topics")])
def test_a_process_with_a_missing_folder_ends_with_code_2(
    folder: Path, repository_root: Path, arguments: tuple[str, str]
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**os.environ, "SECRETS_FOLDER": str(folder / "missing")},
        cwd=repository_root,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1), ended.stderr
    assert f"SECRETS_FOLDER: {folder / 'missing'}" in ended.stderr


def test_a_file_that_is_no_text_is_an_error_without_its_content(folder: Path) -> None:
    (folder / "secret_of_a_file").write_bytes(b"\xff\xfeABC")
    with pytest.raises(InvalidSetting, match="secret_of_a_file: is not UTF-8 text") as raised:
        read_secret_files()
    assert "ABC" not in str(raised.value)
