"""What a text cites is in the tree: the document, the heading or bold word in it, the number of the rule.

A citation names a document in capitals, and then what in it is meant: PROTOCOLS, "Join". More of the same document may
follow: PROTOCOLS, "H first", "Waiting". A document that is cited whole needs no more than its name: INVARIANTS.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIDY = Path(__file__).parent
"""Its tests speak of citations that are wrong."""
FOLDERS = ("fmrd", "tests", "docs", "benchmarks", "scripts", "systemd", "udev")
TEXTS = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and not {"__pycache__", "results"} & set(path.parts) and TIDY not in path.parents
) + [ROOT / name for name in ("README.md", "CHANGELOG.md", "pyproject.toml")]

NAMES = ("PROTOCOLS", "INVARIANTS", "CONCURRENCY", "FORMAT", "README")
DOCUMENTS = {path.stem: path for path in TEXTS if path.suffix == ".md" and path.stem in NAMES}
"""Wherever they lie; the README is that of the root, which comes last."""
CITED_WHOLE = {"INVARIANTS", "FORMAT", "README"}
"""Of the others a citation says which part is meant."""

CITATION = re.compile(rf'\b({"|".join(NAMES)})\b(?!\.md)((?:, "[^"]+")*)(?=(?:, ([A-Z][^"]*))?)')
PATH = re.compile(r"[\w./*-]*\b[\w-]+\.md\b")
RULE = re.compile(r"\b[Rr]ules? (\d+[a-z]?(?:(?:, | and | to )\d+[a-z]?)*)")
ABSENT = re.compile(r"\b(RULES|DESIGN|CONTRACT|DOMAIN|PEERS|STYLE|VXVM|REMOTE|HOUSE)\b(?=[,.:;)]|'s\b| \d| [a-z]|\.md)")
"""Names of documents that are not in the tree, where one is cited."""


def prose_of(path: Path) -> str:
    """A text as one line; of a program its comments and strings, since a constant may have any name."""
    text = path.read_text()
    if path.suffix == ".py":
        kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        text = " ".join(token.string.lstrip("# ") for token in tokens if token.type in kinds)
    return " ".join(text.split())


def parts_of(document: str) -> set[str]:
    """Its headings, whole and up to a colon, and the words in bold without the stop that ends them."""
    text = DOCUMENTS[document].read_text()
    bold = {" ".join(words.split()).rstrip(".:") for words in re.findall(r"\*\*([^*]+)\*\*", text)}
    headings = set(re.findall(r"^#+ (.+)$", text, re.MULTILINE))
    return bold | headings | {heading.split(":")[0] for heading in headings}


def rules() -> set[str]:
    """As the table of INVARIANTS numbers them; of those with letters the number alone, too."""
    found = set(re.findall(r"^\| (\d+[ab]?) \|", DOCUMENTS["INVARIANTS"].read_text(), re.MULTILINE))
    return found | {number.rstrip("ab") for number in found}


def wrong_citations(prose: str, folder: Path) -> Iterator[str]:
    for document, quoted, unquoted in CITATION.findall(prose):
        known = parts_of(document)
        parts = re.findall(r'"([^"]+)"', quoted)
        yield from (f'{document} has no "{part}"' for part in parts if part not in known)
        if document not in CITED_WHOLE and not parts and not unquoted.startswith(tuple(known)):
            yield f"{document}, {unquoted[:40]}: which part of it?"
    places = (ROOT, ROOT / "fmrd", ROOT / "docs", folder)
    for path in set(PATH.findall(prose)) - {f"{name}.md" for name in DOCUMENTS}:
        if "*" not in path and not any((place / path).is_file() for place in places):
            yield f"there is no {path}"
    for numbers in RULE.findall(prose):
        yield from (f"there is no rule {each}" for each in re.findall(r"\d+[a-z]?", numbers) if each not in rules())
    yield from (f"{name} is not in the tree" for name in ABSENT.findall(prose))


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_text_cites_is_in_the_tree(path: Path) -> None:
    assert sorted(set(wrong_citations(prose_of(path), path.parent))) == []


def test_every_document_is_there() -> None:
    assert sorted(DOCUMENTS) == sorted(NAMES)


def test_the_rules_are_ten() -> None:
    assert rules() == {*map(str, range(1, 11)), "2a", "2b"}


RIGHT = (
    'a commit (PROTOCOLS, "H first", "Waiting")', "(PROTOCOLS, Join: a late call)", "(INVARIANTS)", 'README, "Doors"',
    'CONCURRENCY, "The order of locks"', "by rule 2b", "Rules 1, 2a and 10", "fmrd/dco/FORMAT.md", "dco/FORMAT.md",
    "house rules, in a domain of its own style",
)  # fmt: skip
WRONG = (
    'PROTOCOLS, "H last"', 'PROTOCOLS, "H first", "Hurry"', "(PROTOCOLS)", "PROTOCOLS, Jump", 'README, "Nowhere"',
    "rule 11", "rules 1 and 2c", "docs/NOTHING.md", "(RULES, Join)", "(RULES)", "DESIGN 4", "CONTRACT.md",
    "(DESIGN, 3)", "What CONTRACT promises", "as in DESIGN's drawing", 'README, Then; PROTOCOLS, "H last"',
)  # fmt: skip


@pytest.mark.parametrize("text", RIGHT)
def test_a_right_citation_passes(text: str) -> None:
    assert list(wrong_citations(text, ROOT)) == []


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_citation_is_seen(text: str) -> None:
    assert list(wrong_citations(text, ROOT))
