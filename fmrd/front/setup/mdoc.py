"""Markdown, as much of it as our documents use, becomes mdoc(7), the language of manual pages."""

import re
import textwrap
from collections.abc import Iterator, Sequence

WIDTH = 78
_INLINE = re.compile(r"(`[^`]+`|\*\*[^*]+\*\*|(?<!\*)\*[a-z]+\*(?!\*))")
_SENTENCE = re.compile(r"(?<=[A-Za-z0-9)`'\"*][.?]) ")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def escaped(text: str) -> str:
    """Text as a part of a line; a minus stays one, to be copied from a terminal."""
    return text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("`", "\\(ga")


def line(text: str) -> str:
    """A whole line of text, which must not be taken for a macro."""
    return f"\\&{text}" if text.startswith((".", "'")) else text


def inline(text: str) -> str:
    """Text with `code` and **bold** words in it."""
    found = []
    for part in _INLINE.split(text):
        if part.startswith("`"):
            found.append(f"\\fB{escaped(part[1:-1])}\\fR")
        elif part.startswith("**"):
            found.append(f"\\fB{escaped(part[2:-2])}\\fR")
        elif part.startswith("*") and part.endswith("*") and len(part) > 2:
            found.append(f"\\fI{escaped(part[1:-1])}\\fR")
        else:
            found.append(escaped(part))
    return "".join(found)


def paragraph(text: str) -> Iterator[str]:
    """A line for each sentence, or more where it is long."""
    for sentence in _SENTENCE.split(" ".join(text.split())):
        for part in textwrap.wrap(sentence, WIDTH - 22, break_long_words=False, break_on_hyphens=False) or [""]:
            yield line(inline_of_part(part))


def inline_of_part(part: str) -> str:
    """What a wrapped line holds: where code goes on in the next line, its marks are left out."""
    odd = part.count("`") % 2
    return inline(part.replace("`", "")) if odd else inline(part)


def literal(lines: Sequence[str]) -> Iterator[str]:
    """Lines as they are, indented."""
    yield ".Bd -literal -offset indent"
    yield from (line(escaped(each)) for each in lines)
    yield ".Ed"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows as a list: the first cell, and behind it the others with their titles where there are several."""
    titles, *rest = rows
    yield ".Bl -tag -width Ds"
    for first, *others in rest:
        yield f".It {item(first)}"
        filled = [(title, cell) for title, cell in zip(titles[1:], others, strict=True) if cell]
        yield from paragraph(
            "; ".join(f"{title}: {cell}" if len(titles) > 2 and title else cell for title, cell in filled)
        )
    yield ".El"


def item(text: str) -> str:
    """What stands in front of an entry of a list, all of it in bold: one argument of the macro."""
    plain = text.replace("`", "").replace("**", "")
    return f'Sy "{escaped(plain)}"' if plain else "Sy \\&"


def cells(row: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]


def blocks(markdown: str) -> Iterator[list[str]]:
    """Parts of a document that belong together: fenced code, a table, a list, a heading, a paragraph."""
    fenced = False
    block: list[str] = []
    for each in _COMMENT.sub("", markdown).splitlines():
        if each.startswith("```"):
            if fenced:
                yield ["```", *block]
            elif block:
                yield block
            fenced, block = not fenced, []
        elif fenced:
            block.append(each)
        elif not each.strip() or each.startswith("#"):
            if block:
                yield block
            block = []
            if each.startswith("#"):
                yield [each]
        else:
            block.append(each)
    if block:
        yield block


def document(markdown: str, *, top: int = 2) -> Iterator[str]:
    """Return the lines of a document, its title left out. ``top``: how many # a section of the page has."""
    fresh = True
    for block in blocks(markdown):
        first = block[0]
        if first.startswith("#"):
            depth = len(first) - len(first.lstrip("#"))
            if depth >= top:
                title = escaped(first.lstrip("# ").replace("`", ""))
                yield f".Sh {title.upper()}" if depth == top else f".Ss {title}"
                fresh = True
            continue
        yield from _body(block, fresh=fresh)
        fresh = False


def _body(block: list[str], *, fresh: bool) -> Iterator[str]:
    first = block[0]
    if first == "```":
        yield from literal(block[1:])
    elif first.startswith("|"):
        rows = [cells(row) for row in block]
        yield from table([rows[0], *rows[2:]])
    elif first.startswith("- "):
        yield ".Bl -bullet -compact"
        for entry in "\n".join(block)[2:].split("\n- "):
            yield ".It"
            yield from paragraph(entry)
        yield ".El"
    else:
        if not fresh:
            yield ".Pp"
        yield from paragraph("\n".join(block))
