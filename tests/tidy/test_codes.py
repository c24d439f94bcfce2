"""Every code that a user can meet is explained, and every explanation can be met."""

import ast
import re
from pathlib import Path

from fmrd.core.reasons import Reason
from fmrd.explanations import ERRORS, REASONS

PACKAGE = Path(__file__).parents[2] / "fmrd"
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "explanations.py"]
CLASSES = {"FmrdError", "Failed", "BadRequest", "Refused", "Unreachable"}

CONTRACT = {
    "nothing_missed", "fast", "full_new_plex", "full_fmr_off", "full_map_lost", "full_backing_changed",
    "full_forced", "recovery", "refused_split_brain", "refused_unknown_plex", "refused_incomplete",
}  # fmt: skip
"""Reason codes that programs rely on. More may be added; none is renamed."""


def raised() -> dict[str, str]:
    """Code -> where an error is made with it."""
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in CLASSES and node.args:
                codes = [n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant)]
                found.update({code: f"{path.relative_to(PACKAGE)}:{node.lineno}" for code in codes})
    return found


def test_each_error_that_is_raised_is_explained() -> None:
    unexplained = {code: where for code, where in raised().items() if code not in ERRORS and code not in REASONS}
    assert not unexplained


def test_each_explained_error_is_raised_somewhere() -> None:
    assert sorted(set(ERRORS) - set(raised())) == []


def test_each_reason_is_given_somewhere() -> None:
    used = {
        node.attr
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Reason"
    }
    assert sorted(set(Reason.__members__) - used) == []


def test_each_reason_is_explained() -> None:
    """But for those that are of a plex alone, and never of a copy."""
    assert {reason.value for reason in Reason} - {Reason.NONE} == set(REASONS)


def test_no_reason_code_of_the_contract_is_renamed() -> None:
    assert set(REASONS) >= CONTRACT


def test_a_code_is_one_word_and_means_one_thing() -> None:
    assert not set(ERRORS) & set(REASONS)
    assert all(re.fullmatch(r"[a-z][a-z_]*", code) for code in ERRORS | REASONS)


def test_an_explanation_is_a_sentence() -> None:
    assert all(
        text[0].isupper() and text.rstrip()[-1] in ".?" and "  " not in text for text in (ERRORS | REASONS).values()
    )
