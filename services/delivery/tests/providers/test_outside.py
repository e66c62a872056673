"""A provider from outside the repository is named by its class, and passes the same contract."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from delivery.providers import make_providers
from delivery.settings import Settings

ROOT = Path(__file__).resolve().parents[4]


def test_the_example_of_the_docs_passes_the_contract() -> None:
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


async def test_it_is_named_by_its_class_and_reads_its_own_settings(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("PIGEON_TOKEN", "bread")
    providers = make_providers(make_settings(sms_providers="docs.examples.pigeon:Pigeon, log"))
    assert set(providers) == {"pigeon", "log"}
    for provider in providers.values():
        await provider.close()
