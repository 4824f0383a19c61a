"""Extracts commands, links and code from the documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
DOCUMENTS = (*(ROOT / page for page in PAGES), *sorted((ROOT / "docs").glob("*.md")))

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_COMMENT = re.compile(r"\s+#.*")
_OPENING = re.compile(r"^(?:\w+=\S+ )*\./postjournal ")


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of `language`, in order."""
    return [body for name, body in _FENCE.findall(document.read_text()) if name == language]


def commands(document: Path) -> Iterator[str]:
    """Each `./postjournal` command in blocks and in the text, without its pipe and comment."""
    text = document.read_text()
    lines = [line for block in blocks(document, "sh") for line in block.splitlines()]
    lines += [" ".join(code.split()) for code in _INLINE.findall(_FENCE.sub("", text))]
    for line in lines:
        if _OPENING.match(line):
            yield _COMMENT.sub("", line.partition("./postjournal ")[2].partition("|")[0]).strip()


def links(document: Path) -> Iterator[str]:
    """The targets of links and pictures."""
    text = _FENCE.sub("", document.read_text())
    yield from re.findall(r"\]\(([^)\s]+)\)", text)
    yield from re.findall(r'(?:src|srcset)="([^"]+)"', text)


def anchors(document: Path) -> set[str]:
    """The anchors of the headings, as GitHub generates them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
