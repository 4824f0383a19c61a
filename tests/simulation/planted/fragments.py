"""Finds a fragment of code in a source by its tokens, and replaces it.

Formatting does not count: whitespace, line breaks, indentation, comments, a comma before a closing
bracket, and brackets that only group an expression (a formatter adds and removes those when it
wraps a line and joins it again). A fragment has both brackets of such a pair or neither.
"""

from __future__ import annotations

import ast
import io
import keyword
import sys
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, takewhile, zip_longest

OPENING, CLOSING = frozenset("([{"), frozenset(")]}")

_IGNORED = frozenset(
    (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
)

_FSTRING_START = getattr(tokenize, "FSTRING_START", None)
_FSTRING_END = getattr(tokenize, "FSTRING_END", None)
"""Python 3.12 and later split an f-string into tokens; here it is one."""

_OPEN_BRACKETS = "(" * 32
"""Before a fragment, so that the tokenizer expects no indentation in it."""

_NAMES = frozenset(("None", "True", "False"))
"""Keywords that are values: a bracket after one would be a call."""


class FragmentError(Exception):
    """The fragment is not in the source exactly once, or cannot be replaced there."""


@dataclass(frozen=True)
class Token:
    """A token and its span in the text, in characters."""

    text: str
    begin: int
    end: int


@dataclass(frozen=True)
class Tokens:
    """The tokens of a text that count, and its pairs of brackets that only group."""

    counted: Sequence[Token]
    groups: Sequence[tuple[Token, Token]]

    @property
    def texts(self) -> list[str]:
        return [token.text for token in self.counted]


def replace(source: str, right: str, wrong: str, within: str | None = None) -> str:
    """Replace `right`, which must match once, by `wrong`, or by `pass` if that is empty.

    `within` names the function or class in which `right` is searched: `function`, `Class` or
    `Class.method`. Lines of `wrong` after the first are indented as the line that is replaced.
    Raises `FragmentError`.
    """
    tokens = tokenized(source)
    found = list(_matches(tokens, tokenized(right).texts, _span_of(source, within)))
    if len(found) != 1:
        where = f" within {within}" if within else ""
        raise FragmentError(f"{right!r} matches {len(found)} times{where}, not once")
    (first, last), wrong = found[0], wrong.strip() or "pass"
    begin, end, opened, closed = _balanced(tokens, first, last)
    if opened or closed:
        wrong = _with_brackets(wrong, right, tokens.counted[first : last + 1], opened, closed)
    return source[:begin] + wrong.replace("\n", "\n" + _indentation(source, begin)) + source[end:]


@cache
def tokenized(text: str) -> Tokens:
    """The tokens of a source or of a fragment, which need not be a complete statement."""
    tokens = list(_without_trailing_commas(list(_tokens(text))))
    groups = list(_groups(tokens))
    grouping = {token.begin for group in groups for token in group}
    return Tokens([token for token in tokens if token.begin not in grouping], groups)


def _tokens(text: str) -> Iterator[Token]:
    prefixed, shift = _OPEN_BRACKETS + text, len(_OPEN_BRACKETS)
    starts = [-shift, *accumulate(map(len, io.StringIO(prefixed)), initial=-shift)]
    fstrings = list[int]()  # where each f-string begins that has not ended
    try:
        for token in tokenize.generate_tokens(io.StringIO(prefixed).readline):
            begin = starts[token.start[0]] + token.start[1]
            end = starts[token.end[0]] + token.end[1]
            if token.type == _FSTRING_START:
                fstrings.append(begin)
            elif token.type == _FSTRING_END:
                begin = fstrings.pop()
            if not fstrings and token.type not in _IGNORED and begin >= 0:
                yield Token(text[begin:end], begin, end)
    except tokenize.TokenError:
        return  # at the end of the text, since the brackets are not closed


def _without_trailing_commas(tokens: Sequence[Token]) -> Iterator[Token]:
    following: Token | None
    for token, following in zip_longest(tokens, tokens[1:]):
        if token.text != "," or following is None or following.text not in CLOSING:
            yield token


def _groups(tokens: Sequence[Token]) -> Iterator[tuple[Token, Token]]:
    """The pairs of round brackets that do not follow a value: neither calls nor parameters."""
    opened = list[tuple[Token, bool]]()
    previous = None
    for token in tokens:
        if token.text in OPENING:
            opened.append((token, token.text == "(" and not _is_value(previous)))
        elif token.text in CLOSING and opened:
            opening, is_group = opened.pop()
            if is_group and opening.text == "(":
                yield opening, token
        previous = token


def _is_value(token: Token | None) -> bool:
    """Whether a round bracket after the token is a call, parameters or bases."""
    if token is None:
        return False
    if token.text in CLOSING or token.text[-1] in "\"'":
        return True
    is_name = token.text[0].isalpha() or token.text[0] == "_"
    return is_name and (not keyword.iskeyword(token.text) or token.text in _NAMES)


def _matches(
    tokens: Tokens, right: Sequence[str], span: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """Indexes of the first and the last token of each match."""
    texts, size = tokens.texts, len(right)
    for first in range(len(texts) if right else 0):
        if texts[first : first + size] == right:
            last = first + size - 1
            if span[0] <= tokens.counted[first].begin and tokens.counted[last].end <= span[1]:
                yield first, last


def _span_of(source: str, within: str | None) -> tuple[int, int]:
    if within is None:
        return 0, len(source)
    node: ast.AST = ast.parse(source)
    for name in within.split("."):
        node = _definition(node, name)
    assert isinstance(node, ast.stmt)
    lines = list(io.StringIO(source))
    begin = sum(map(len, lines[: node.lineno - 1]))
    return begin, sum(map(len, lines[: node.end_lineno]))


def _definition(node: ast.AST, name: str) -> ast.AST:
    for child in ast.iter_child_nodes(node):
        if getattr(child, "name", None) == name:
            return child
    raise FragmentError(f"there is no definition of {name}")


def _balanced(tokens: Tokens, first: int, last: int) -> tuple[int, int, list[Token], list[Token]]:
    """The span to replace, and the grouping brackets of which it holds only one half.

    A bracket next to the matched tokens is added to the span if its other half is in it.
    """
    counted = tokens.counted
    begin, end = counted[first].begin, counted[last].end
    floor = counted[first - 1].end if first else 0
    ceiling = counted[last + 1].begin if last + 1 < len(counted) else sys.maxsize
    for opening, closing in tokens.groups:  # the inner ones first
        if begin < opening.begin < end <= closing.begin < ceiling:
            end = closing.end
        elif floor <= opening.begin < begin < closing.begin < end:
            begin = opening.begin
    opened = [o for o, c in tokens.groups if begin <= o.begin < end <= c.begin]
    closed = [c for o, c in tokens.groups if o.begin < begin <= c.begin < end]
    return begin, end, opened, closed


def _with_brackets(
    wrong: str, right: str, matched: Sequence[Token], opened: list[Token], closed: list[Token]
) -> str:
    """Put half pairs of grouping brackets where `wrong` is still, or again, as `right` is."""
    before, after = tokenized(right).texts, tokenized(wrong).counted
    texts = [token.text for token in after]
    same_head = len(list(takewhile(bool, (a == b for a, b in zip(before, texts, strict=False)))))
    tails = zip(reversed(before), reversed(texts), strict=False)
    same_tail = len(list(takewhile(bool, (a == b for a, b in tails))))
    inserts = list[tuple[int, str]]()
    for bracket in opened:
        preceding = sum(token.begin < bracket.begin for token in matched)
        if preceding > same_head:
            raise FragmentError(f"{right!r} begins a bracket that it does not end: quote all of it")
        inserts.append((after[preceding - 1].end, " ("))
    for bracket in closed:
        following = sum(token.begin > bracket.begin for token in matched)
        if following > same_tail:
            raise FragmentError(f"{right!r} ends a bracket that it does not begin: quote all of it")
        inserts.append((after[len(after) - following].begin, ")"))
    for position, bracket_text in sorted(inserts, reverse=True):
        wrong = wrong[:position] + bracket_text + wrong[position:]
    return wrong


def _indentation(source: str, position: int) -> str:
    """The indentation of the line at `position`."""
    line = source[source.rfind("\n", 0, position) + 1 :].split("\n", 1)[0]
    return line[: len(line) - len(line.lstrip())]
