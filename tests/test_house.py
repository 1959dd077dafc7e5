"""The house itself: what its files may hold, and which room may know which."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOP_LEVEL = {
    "pyproject.toml",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "Dockerfile",
    "channeld",
    "config",
    "examples",
    "tests",
    "scripts",
}
# Put together here, so that this file passes its own test.
REGISTRIES = re.compile(
    "|".join(["py" + r"pi\.org", "python" + r"hosted\.org", r"registry\.npm" + "js", "file:" + "///opt"])
)
WORKPLACE = re.compile("/wo" + r"rk/(main|shared|\.library)\b")
INDEX_OPTION = re.compile(r"(?m)^\s*(-i|--(extra-)?index" + "-url|--find" + r"-links)\b")


def tracked() -> list[Path]:
    """Every file that git tracks, or the present ones where there is no git."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [
        p
        for p in ROOT.rglob("*")
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(ROOT).parts)
    ]


def test_no_file_names_a_registry_or_a_workplace() -> None:
    """A checkout works anywhere, with whatever package source is configured there."""
    for path in tracked():
        text = path.read_text("utf-8", errors="replace")
        for pattern in (REGISTRIES, WORKPLACE):
            assert not pattern.search(text), f"{path}: {pattern.pattern}"


@pytest.mark.parametrize("kind", ["run", "dev"])
def test_locked_requirements_have_hashes_and_no_address(kind: str) -> None:
    """Every package is pinned, with its hashes, and nothing says where from."""
    text = (ROOT / "scripts/requirements" / f"{kind}.txt").read_text()
    assert "://" not in text
    assert not INDEX_OPTION.search(text)
    packages = re.findall(r"(?m)^[a-z0-9][^\s=]*==[^\s]+.*(?:\n    .*)+", text)
    assert len(packages) == len(re.findall(r"(?m)^[a-z0-9]", text)) > 20
    assert all("--hash=sha256:" in package for package in packages)


def test_both_locks_agree() -> None:
    """What runs in tests is what runs in production."""
    pins = {}
    for kind in ("run", "dev"):
        text = (ROOT / "scripts/requirements" / f"{kind}.txt").read_text()
        pins[kind] = dict(re.findall(r"(?m)^([a-z0-9][^\s=]*)==(\S+)", text))
    assert pins["run"].items() <= pins["dev"].items()


def test_the_lock_has_every_dependency() -> None:
    """Nothing is declared and not locked."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "scripts/requirements/run.txt").read_text()
    extras = project["optional-dependencies"]
    for dependency in project["dependencies"] + extras["daemon"] + extras["client"] + extras["redeem"][1:]:
        name = re.split(r"[\s<>=!~;\[]", dependency)[0].lower().replace("_", "-")
        assert re.search(rf"(?m)^{re.escape(name)}==", text), f"{name}: run scripts/lock"


def test_scripts_can_be_run() -> None:
    """Executable, bash, and sound to its parser."""
    scripts = [ROOT / ".ci/run", *(ROOT / "scripts" / s for s in ("demo", "test", "check", "bench", "soak", "lock"))]
    for script in scripts:
        assert os.access(script, os.X_OK), script
        assert script.read_text().startswith("#!/usr/bin/env bash\n"), script
    for script in [*scripts, ROOT / "scripts/setup"]:
        assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0, script


def test_the_top_level_holds_what_it_is_meant_to() -> None:
    """A stranger finds the right room from its name."""
    names = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_no_room_knows_what_it_must_not() -> None:
    """The import contracts of pyproject.toml hold."""
    command = [
        sys.executable,
        "-c",
        "import sys; from importlinter.cli import lint_imports_command as c; sys.exit(c())",
    ]
    done = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_is_built_from_what_is_let_in() -> None:
    """Every source that the Dockerfile copies is let through .dockerignore, and it does not run as root."""
    text = (ROOT / "Dockerfile").read_text()
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [source for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", text) for source in line.split()[:-1]]
    assert {source.removeprefix("./") for source in copied} <= allowed
    assert all((ROOT / source).exists() for source in copied)
    assert re.search(r"(?m)^USER 10001", text)
    assert "HEALTHCHECK" in text


def test_the_readme_names_every_room() -> None:
    """A stranger finds in its tree what each module is for."""
    tree = set(
        re.findall(r"\w+", (ROOT / "README.md").read_text().partition("## The house")[2].partition("Two roads")[0])
    )
    found = (ROOT / "channeld").glob("*/*.py")
    rooms = {path.stem for path in found if path.parent.name not in {"cli", "sandbox"} and path.stem[0] != "_"}
    assert rooms - tree == set()


def test_metrics_that_people_are_told_of_exist() -> None:
    """What the documents and the shipped files call `channeld_...` stands in the source by that name."""
    source = "\n".join(path.read_text() for path in (ROOT / "channeld").rglob("*.py"))
    told = [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        *(path for path in (ROOT / "config").rglob("*") if path.is_file()),
    ]
    for path in told:
        for name in re.findall(r"\bchanneld_([a-z_]+[a-z])\b", path.read_text()):
            assert re.search(rf'"(channeld_)?{re.sub("_total$", "", name)}', source), f"{path}: {name}"
