"""What the documents name exists, and what exists is documented."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway import hookspecs, settings
from tests.test_layers import ROOT

#: Documents whose links and commands are checked.
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "plugins").glob("*/*.md")])
ADRS = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
#: In code only: "make sure" is prose.
CODE = re.compile(r"`([^`\n]+)`|^    (\S.*)$", re.MULTILINE)


def text(name: str) -> str:
    """Return a document of ours."""
    return (ROOT / name).read_text()


def setting_names() -> list[str]:
    """Return `section.key` of all settings, and the doors."""
    names = [
        f"{section}.{field.name}"
        for section, struct in settings.SECTIONS.items()
        for field in msgspec.structs.fields(struct)
    ]
    names += [f"users.NAME.{field.name}" for field in msgspec.structs.fields(settings.User)]
    return names + [f"listeners.{door}" for door in settings.DOORS]


def hook_names() -> list[str]:
    """Return all hooks."""
    return [name for name, value in vars(hookspecs).items() if hasattr(value, "gateway_spec")]


def commands(document: str, program: str) -> Iterator[str]:
    """Yield the words that follow a program's name in a document's code."""
    for found in CODE.finditer(text(document)):
        code = found.group(1) or found.group(2)
        yield from re.findall(rf"(?:^|\s){program} ([a-z][a-z_-]*)", code.partition("#")[0])


def relative(path: Path) -> str:
    """Return a path as people write it."""
    return path.relative_to(ROOT).as_posix()


def section_of(document: str, title: str) -> str:
    """Return what stands below a heading that has these words, up to the next heading."""
    found = re.search(rf"^#+ .*{re.escape(title)}.*$(.*?)(?=^#|\Z)", document, re.MULTILINE | re.DOTALL)
    return found.group(1) if found else ""


@pytest.mark.parametrize("name", setting_names())
def test_setting_is_documented(name: str) -> None:
    section, _, key = name.rpartition(".")
    below = section_of(text("docs/configuration.md"), f"[{section}]")
    assert f"`{name}`" in text("docs/configuration.md") or re.search(rf"\b{key}\b", below), name


@pytest.mark.parametrize("name", hook_names())
def test_hook_is_documented_with_its_signature(name: str) -> None:
    arguments = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
    assert f"{name}({arguments})" in text("docs/plugins.md")


def test_hooks_are_found() -> None:
    assert "gateway_protocols" in hook_names()


def test_hooks_named_in_documents_exist() -> None:
    named = set(re.findall(r"\b(gateway_[a-z_]+)\(", text("docs/plugins.md")))
    assert named <= set(hook_names())


def make_targets() -> set[str]:
    """Return the targets of the Makefile that people call."""
    phony = re.search(r"^\.PHONY:(.*)$", text("Makefile"), re.MULTILINE)
    assert phony is not None
    return set(phony.group(1).split())


@pytest.mark.parametrize("document", [relative(path) for path in DOCUMENTS])
def test_make_targets_exist(document: str) -> None:
    assert set(commands(document, "make")) <= make_targets()


@pytest.fixture(scope="module")
def cli_commands() -> set[str]:
    """Return what `gateway --help` lists."""
    result = subprocess.run(
        [sys.executable, "-m", "gateway", "--help"],
        cwd=ROOT,
        env={"COLUMNS": "200", "TERM": "dumb", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(re.findall(r"^\W*([a-z]+)  +\S", result.stdout, re.MULTILINE))


@pytest.mark.parametrize("document", [relative(path) for path in DOCUMENTS])
def test_cli_commands_exist(document: str, cli_commands: set[str]) -> None:
    assert "serve" in cli_commands
    assert set(commands(document, "gateway")) - {"ready"} <= cli_commands


@pytest.mark.parametrize("adr", ADRS)
def test_adr_is_listed(adr: str) -> None:
    assert f"({adr})" in text("docs/adr/README.md")


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(path: Path) -> None:
    targets = [
        link
        for link in LINK.findall(path.read_text())
        if "://" not in link and not link.startswith("mailto:")
    ]
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_paths_named_exist(name: str) -> None:
    """A path in backquotes that begins with one of our folders is a promise."""
    named = re.findall(r"`((?:gateway|plugins|tests|docs|examples|benchmarks)/[\w./-]*)`", text(name))
    assert [path for path in named if not (ROOT / path).exists()] == []
