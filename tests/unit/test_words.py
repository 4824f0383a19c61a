"""The vocabulary: words that an engineer of the field would stumble over stay out of the project.

CONTRIBUTING.md has the words to use instead.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPS = ("shared", "services", "loadtest", "docs", "grafana", "prometheus", "minio")
SUFFIXES = {".py", ".md", ".html", ".js", ".css", ".yml", ".yaml", ".toml", ".sh", ".java", ".xml"}
FILES = sorted(path for top in TOPS for path in (ROOT / top).rglob("*") if path.suffix in SUFFIXES)
FILES += [ROOT / "README.md", ROOT / "pyproject.toml", *sorted(ROOT.glob("compose*.yaml"))]

BANNED = {
    "personification": r"tell|tells|told|says?|said|harm\w*|blows?|nobody|somebody|everybody|whoever",
    "archaic": r"whence|oftener|shall|anew|mend|mends|mended|for ever|made anew",
    "people": r"people|patience|patient|hasty|trouble\w*|news",
    "riddles": r"(?:is|are|was|has) gone|(?:is|are) away|goes? away|lets? go|(?:is|are) none",
    "hands": r"hand(?:s|ed|ing)? (?:on|out|over to)|gives? back|given back|tak(?:e|es|ing) in",
    "own words": r"tenure|faithful|foreign(?!.key)|keeper|surroundings|asker|teller|striker|reign",
    "house": r"house|guests?",
    "British spelling": r"colours?|behaviou?rs?(?<!behavior)(?<!behaviors)|recognis\w+|serialis\w+"
    r"|organis\w+|initialis\w+|honou?r(?:s|ed)?(?<!honor)(?<!honors)(?<!honored)|favou?r(?<!favor)",
    "loop variable": r"each(?= in\b)",
}
"""Kind → pattern, of whole words; a word with an underscore beside it is another word."""

ALLOWED = {
    # Names on the wire: JSON fields, labels, ids.
    "shared/postjournal/core/records.py": {"foreign"},
    "shared/postjournal/verify/journal.py": {"foreign"},
}
"""File → words that it may have."""


def found_in(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8").lower()
    words = {
        match[0] for pattern in BANNED.values() for match in re.findall(rf"\b(({pattern}))\b", text)
    }
    return words - ALLOWED.get(str(path.relative_to(ROOT)), set())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_none_of_the_banned_words(path: Path) -> None:
    assert not found_in(path)
