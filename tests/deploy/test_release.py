"""The scripts of a release: the images with their signatures, and the notes. CI calls make targets only."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tools.bench.__main__ import read_arguments

from .manifests import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BUILD = """#!/usr/bin/env bash
echo "build $*" >>calls
while [ $# -gt 0 ]; do
    [ "$1" != --metadata-file ] || printf '{"containerimage.digest": "sha256:%s"}' "$(wc -l <calls)" >"$2"
    shift
done
"""
COSIGN = '#!/usr/bin/env bash\necho "cosign $*" >>calls\n'


def run(command: list[str], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository with the scripts, in which two programs note their calls."""
    for folder in ("tools", "bin"):
        (tmp_path / folder).mkdir()
    for name in ("images.sh", "release_notes.sh"):
        shutil.copy(ROOT / "tools" / name, tmp_path / "tools")
    for name, text in (("builder", BUILD), ("cosign", COSIGN)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def images(copy: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{copy}/bin:{os.environ['PATH']}"
    return run(["tools/images.sh", *arguments], copy, PATH=path, IMAGE_PREFIX="example/", **variables)


def test_the_pushed_digest_of_each_image_is_signed(copy: Path) -> None:
    done = images(copy, "--sign", "builder", "--push", VERSION="v1")
    assert done.returncode == 0, done.stderr
    calls = (copy / "calls").read_text().splitlines()
    names = ["gateway", "contacts", "scheduling", "delivery", "operator"]
    for name, build, sign in zip(names, calls[::2], calls[1::2], strict=True):
        assert build.startswith("build --push --metadata-file")
        assert f"--tag example/cooee-{name}:v1" in build
        assert re.fullmatch(rf"cosign sign --yes example/cooee-{name}@sha256:\d+", sign)
    assert len({sign.rpartition("@")[2] for sign in calls[1::2]}) == 5


def test_images_need_a_version(copy: Path) -> None:
    done = images(copy, "builder", VERSION="")
    assert done.returncode != 0
    assert "VERSION: set VERSION to the tag of the images" in done.stderr


def test_the_notes_list_the_commits_since_the_previous_release_with_migrations_first(copy: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
        done = run(["git", *identity, *arguments], copy)
        assert done.returncode == 0, done.stderr

    def commit(subject: str, path: str = "file") -> None:
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_text(subject)
        git("add", path)
        git("commit", "-qm", subject)

    git("init", "-q")
    commit("Begin")
    git("tag", "v1.0.0")
    first = run(["tools/release_notes.sh", "v1.0.0"], copy)
    assert first.stdout == "The first release.\n"
    commit("Send faster")
    commit("Add a colour", "services/contacts/migrations/versions/0002_colour.py")
    git("tag", "v1.1.0")
    commit("Not yet released")
    notes = re.sub(r" \([0-9a-f]+\)", "", run(["tools/release_notes.sh", "v1.1.0"], copy).stdout)
    assert notes == ("## Migrations\n\n- Add a colour\n\n## Changes since v1.0.0\n\n- Send faster\n- Add a colour\n")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_make_targets_only(path: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    jobs = yaml.safe_load(path.read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        program, target = command.split()[:2]
        assert (program == "make" and target in targets) or (program, target) == ("gh", "release"), command


def test_the_nightly_bench_continues_the_history_of_the_runs_before() -> None:
    steps = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text())["jobs"]["bench"]["steps"]
    names = [step.get("run") or step["uses"].split("@")[0] for step in steps][2:]
    assert names == ["actions/cache/restore", "make bench", "actions/cache/save", "actions/upload-artifact"]
    restore, save, upload = (step["with"] for step in steps[2:] if "uses" in step)
    assert restore["path"] == save["path"] == upload["path"] == f"{read_arguments([]).home}/history.jsonl"
    assert save["key"].startswith(restore["restore-keys"])
    assert all(step["if"] == "always()" for step in steps[4:]), "a figure that failed belongs to the history, too"
