"""What all commands have in common: exit codes, errors, and JSON on standard output alone."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cooee import main
from cooee.command import Command, Report
from cooee.errors import MEANINGS

from .conftest import Cooee, Sql

CONSOLE_SCRIPT = Path(__file__).parents[1] / "bin" / "cooee"


def start(*arguments: str, script: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_DATABASE_URL")}
    environment |= {"COOEE_HOME": str(script.parent), **variables}
    return subprocess.run(
        [script, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return a copy of the console script beside a Python, as `make setup` and the image have it."""
    script = tmp_path / "cooee"
    script.write_bytes(CONSOLE_SCRIPT.read_bytes())
    script.chmod(0o755)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return script


def test_every_exit_code_is_in_help_and_in_the_page(script: Path, repository_root: Path) -> None:
    shown = start("--help", script=script)
    page = (repository_root / "docs/operators.md").read_text()
    assert shown.returncode == 0
    for code, meaning in MEANINGS.items():
        assert re.search(rf"^ +{code:d}  {re.escape(meaning)}$", shown.stdout, re.MULTILINE)
        assert f"| {code:d} | {meaning} |" in page


def test_console_script_starts_through_a_link_and_prints_errors_as_sentences(script: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "c"
    link.parent.mkdir()
    link.symlink_to(script)
    failed = start("stuck", "--json", script=link, SCHEDULING_DATABASE_URL="postgresql://s:secret-word@127.0.0.1:9/c")
    assert (failed.returncode, json.loads(failed.stdout)["error"]["kind"]) == (3, "unreachable")
    assert failed.stderr.startswith("cooee: scheduling's database: ")
    assert len(failed.stderr.splitlines()) == 1
    assert "secret-word" not in failed.stdout + failed.stderr


def test_a_closed_pipe_changes_no_exit_code(script: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        environment = os.environ | {"COOEE_HOME": str(script.parent), "GATEWAY_URL": "http://127.0.0.1:9"}
        command = [script, "health", "--json"]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (3, False)


def test_an_interrupted_command_has_a_code_of_its_own(script: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gateway:
        gateway.settimeout(60)
        environment = os.environ | {"COOEE_HOME": str(script.parent)}
        url = f"http://127.0.0.1:{gateway.getsockname()[1]}"
        command = [script, "health", "--json", "--gateway", url]
        # A shell that starts the tests in the background lets them ignore SIGINT, and they pass this on.
        inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
        signal.signal(signal.SIGINT, inherited)
        with gateway.accept()[0] as connection:
            connection.settimeout(60)
            assert connection.recv(1)  # the command has sent its request, and waits for an answer
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)["error"]["kind"], "Traceback" in err) == (130, "interrupted", False)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "command"),
        (("nonsuch",), "nonsuch"),
        (("dead-letters",), "action"),
        (("dead-letters", "list", "--service", "gateway"), "--service"),
        (("dead-letters", "show", "--service", "delivery", "--id", "9223372036854775808"), "--id"),
        (("dead-letters", "list", "--limit", "0"), "--limit"),
        (("history",), "--schedule"),
        (("history", "1", "--schedule", "2"), "--schedule"),
        (("history", "1", "--show"), "--show"),
        (("stuck", "--minutes", "nan"), "--minutes"),
        (("stuck", "--minutes", "-1"), "--minutes"),
        (("stuck", "--minutes", "1e300"), "--minutes"),
        (("inbound", "list", "--phone", "\udcff"), "UTF-8"),
        (("inbound", "list", "--phone", "04\0"), "NUL"),
    ],
)
async def test_wrong_usage_is_named(cooee: Cooee, arguments: tuple[str, ...], reason: str) -> None:
    refused = await cooee(*arguments)
    assert (refused.code, refused.out, reason in refused.err) == (2, "", True), refused
    as_json = await cooee("--json", *arguments)
    error = as_json.document["error"]
    assert (as_json.code, error["kind"], error["exit_code"], reason in error["message"]) == (2, "usage", 2, True)


async def test_json_may_stand_before_or_after_the_command(cooee: Cooee) -> None:
    for arguments in (("--json", "inbound", "list"), ("inbound", "--json", "list"), ("inbound", "list", "--json")):
        assert (await cooee(*arguments)).document["inbound_messages"] == []


async def test_missing_and_invalid_databases_are_reported_without_passwords(cooee: Cooee, urls: dict[str, str]) -> None:
    for url, code, reason in (
        ("", 6, "DELIVERY_DATABASE_URL is not set"),
        ("secret-word", 6, "DELIVERY_DATABASE_URL is not the URL"),
        ("postgresql://delivery:secret-word@127.0.0.1:port/cooee", 6, "DELIVERY_DATABASE_URL is not the URL"),
        ("postgresql://delivery:secret-word@127.0.0.1:9/cooee", 3, "delivery's database: "),
        (urls["delivery"].replace("test-password", "secret-word"), 3, "password authentication failed"),
        (urls["delivery"] + "_missing", 3, "does not exist"),
    ):
        failed = await cooee("history", "1", "--json", DELIVERY_DATABASE_URL=url)
        assert (failed.code, reason in failed.err) == (code, True), failed
        assert "secret-word" not in failed.out + failed.err


async def test_invalid_settings_are_reported_without_values(cooee: Cooee) -> None:
    failed = await cooee("providers", "check", MMS_MAX_BYTES="secret-word", INTERNAL_TOKEN_SECRET="short-secret")
    assert (failed.code, "INTERNAL_TOKEN_SECRET" in failed.err) == (6, True), failed
    assert "short-secret" not in failed.err


async def test_an_error_of_a_statement_is_not_called_unreachable(cooee: Cooee, urls: dict[str, str]) -> None:
    another = {"DELIVERY_DATABASE_URL": urls["contacts"]}
    failed = await cooee("sender-ids", "list", "--json", **another)
    assert (failed.code, failed.document["error"]["kind"]) == (70, "internal")
    assert 'delivery\'s database: relation "sender_ids" does not exist (--debug' in failed.err
    assert "Traceback" in (await cooee("sender-ids", "list", "--debug", **another)).err


async def test_a_missing_folder_of_secrets_is_a_setting(cooee: Cooee, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    failed = await cooee("stuck", "--json", SECRETS_FOLDER=missing)
    assert (failed.code, failed.document["error"]["kind"]) == (6, "settings")
    assert f"SECRETS_FOLDER: {missing}: " in failed.err


async def test_an_error_of_the_code_has_a_code_of_its_own(cooee: Cooee, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> Report:
        raise KeyError("lost")

    monkeypatch.setattr(main, "COMMANDS", (Command("fail", "fail", fail),))
    failed = await cooee("fail", "--json")
    assert (failed.code, failed.document["error"]["kind"], "Traceback" in failed.err) == (70, "internal", False)
    assert "Traceback" in (await cooee("fail", "--debug")).err


async def test_control_characters_do_not_reach_the_terminal(cooee: Cooee, sql: Sql) -> None:
    await sql(
        "delivery",
        "INSERT INTO dead_letters (topic, kafka_partition, kafka_offset, sha256, body, error)"
        " VALUES ('t', 0, 1, 'x', 'x', chr(27) || '[2Jerror')",
    )
    listed = await cooee("dead-letters", "list")
    assert ("\x1b" in listed.out, "[2Jerror" in listed.out) == (False, True)
    assert (await cooee("dead-letters", "list", "--json")).document["dead_letters"][0]["error"] == "\x1b[2Jerror"


def test_commands_can_be_imported_without_tools(repository_root: Path) -> None:
    """The image has no `tools`, and none of the packages for development."""
    folders = [repository_root / "libs/common/src", repository_root / "libs/operator/src"]
    folders += [repository_root / f"services/{service}/src" for service in ("contacts", "scheduling", "delivery")]
    code = (
        f"import sys; sys.path[:] = [p for p in sys.path if p not in ({str(repository_root)!r}, '')]"
        f" + {[str(folder) for folder in folders]!r}; import cooee.main; assert 'tools' not in sys.modules;"
        " assert 'gateway' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
