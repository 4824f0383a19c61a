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
    "personification": r"tell|tells|told|says?|said|harm(?:s|ed)?|blows?",
    "persons": r"nobody|somebody|everybody|whoever|people|patience|patient|hasty|troubles?|news",
    "archaic": r"whence|oftener|shall|anew|mend|mends|mended|for ever",
    "riddles": r"(?:is|are|was|has) gone|(?:is|are) away|goes? away|lets? go"
    r"|(?<!there )(?:is|are) none(?! of)",
    "hands": r"hand(?:s|ed)? (?:on|out)|gives? back|given back|takes? in",
    "own words": r"tenure|faithful|foreign|keeper|surroundings|asker|teller|striker|reign",
    "house": r"house|rooms?|guests?",
    "British spelling": r"colours?|behaviours?|recognis\w+|serialis\w+|organis\w+|initialis\w+"
    r"|honours?|favours?|licences?",
    "loop variable": r"each(?= in\b)",
}
CAPITALIZED = re.compile(r"\b[A-Z](?=[a-z]+\b)(?!one\b)")
"""The capital of a word, but of `None`, which is no English word."""

ALLOWED = {
    # The kind of unknown records in metrics and audit reports, which are wire formats.
    "shared/postjournal/core/records.py": {"foreign"},
    "shared/postjournal/verify/journal.py": {"foreign"},
    # The JSON name of a step's details, in `trace --json`.
    "shared/postjournal/cli/trace/builder.py": {"told"},
    # The name of a server-sent event.
    "services/coordinator/page/difference.py": {"say"},
    "services/web/static/live.js": {"say"},
}
"""File → words that it may have."""


def found_in(path: Path) -> set[str]:
    text = CAPITALIZED.sub(lambda match: match[0].lower(), path.read_text(encoding="utf-8"))
    found = {
        match[0]
        for pattern in BANNED.values()
        for match in re.finditer(rf"\b(?:{pattern})\b", text)
    }
    jinja = {"is none"} if path.suffix == ".html" else set[str]()  # a test of its language
    return found - jinja - ALLOWED.get(str(path.relative_to(ROOT)), set())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_has_none_of_the_banned_words(path: Path) -> None:
    assert not found_in(path)
