"""A provider from outside the tree is named by its class, and keeps the same contract."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from delivery.providers import make_providers

ROOT = Path(__file__).resolve().parents[4]


def test_the_example_of_the_docs_keeps_the_contract() -> None:
    named = {"REHEARSAL": "docs.examples.pigeon_rehearsal:PigeonRehearsal"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [*command, "services/delivery/tests/providers/test_contract.py"],
        cwd=ROOT,
        env=os.environ | named,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


async def test_it_is_named_by_its_class(make_settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("PIGEON_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PIGEON_TOKEN", "bread")
    made = make_providers(make_settings(sms_providers="docs.examples.pigeon:Pigeon, log"))
    assert set(made) == {"pigeon", "log"}
    for provider in made.values():
        await provider.close()
