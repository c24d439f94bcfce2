"""fmrd-vx: command lines of VxVM are taken apart as VxVM's own commands do it, and the table of forms is whole."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.errors import BadRequest, FmrdError
from fmrd.front.ctl.cli import cli
from fmrd.front.vx.disks import new_paths
from fmrd.front.vx.forms import ABSENT, FORMS, form_of
from fmrd.front.vx.main import help_text
from fmrd.front.vx.typed import KEYED, TAKES, NotSupported, read, read_length


def test_options_stand_before_or_behind() -> None:
    for line in ("-g dg -b snapstart v nmirror=2 disk01", "snapstart v disk01 nmirror=2 -bg dg"):
        typed = read("vxassist", line.split())
        assert (typed.keyword, typed.words, typed.group, typed.background) == ("snapstart", ("v", "disk01"), "dg", True)
        assert typed.attribute("nmirror") == "2"


def test_options_of_o_are_separated_by_commas_or_given_again() -> None:
    for line in ("-o slow=10,iosize=2m v", "-o slow=10 -o iosize=2m v"):
        assert read("vxrecover", line.split()).options == {"slow": "10", "iosize": "2m"}
    assert read("vxassist", ["-o", "fmrd_paths=/a,/b", "make"]).options == {"fmrd_paths": "/a,/b"}


def test_several_sources_keep_their_order() -> None:
    typed = read("vxsnap", ["make", "source=v1/newvol=s1", "source=v2/newvol=s2"])
    assert typed.attributes == (("source", "v1/newvol=s1"), ("source", "v2/newvol=s2"))


@pytest.mark.parametrize(
    ("text", "length"),
    [("1", 512), ("20480", 10 << 20), ("2s", 1024), ("2b", 1024), ("3k", 3072), ("64m", 64 << 20), ("2G", 2 << 30),
     ("1t", 1 << 40)],
)  # fmt: skip
def test_lengths_are_sectors_or_have_a_unit(text: str, length: int) -> None:
    assert read_length(text) == length


@pytest.mark.parametrize("text", ["", "m", "1.5g", "-1", "1x", "1mm", "٣m", "9" * 19])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        read_length(text)


@given(st.sampled_from(sorted(TAKES)), st.lists(st.text(max_size=12), max_size=6))
def test_whatever_is_typed_is_a_form_or_refused(tool: str, line: list[str]) -> None:
    with contextlib.suppress(FmrdError, NotSupported):
        assert form_of(read(tool, line)).shown


def test_every_form_says_how_it_is_typed() -> None:
    assert set(FORMS) == set(TAKES)
    for tool, forms in FORMS.items():
        assert ("" in forms) == (tool not in KEYED)
        for word, form in forms.items():
            assert any(line.startswith("vx") and word in line for line in [form.shown]), f"{tool} {word}"
            assert form.shown in help_text()


def test_what_is_absent_is_no_form_and_has_a_hint() -> None:
    for tool, words in ABSENT.items():
        assert not set(words) & set(FORMS[tool])
        for word, hint in words.items():
            with pytest.raises(NotSupported) as refused:
                form_of(read(tool, [word, "v"]))
            assert refused.value.hint == hint


def test_hints_name_commands_that_there_are() -> None:
    for hint in [hint for words in ABSENT.values() for hint in words.values() if "fmrctl " in hint]:
        for part in hint.split("fmrctl ")[1:]:
            assert part.replace(":", "").split()[0] in cli.commands, hint


def test_a_uri_stands_where_a_path_does() -> None:
    uri = "nbds://backup.example/data?x-fence=single"
    typed = read("vxassist", ["-o", f"fmrd_paths={uri}", "mirror", "data"])
    assert new_paths(typed, {}, "data", [], 1) == [uri]
    assert new_paths(read("vxassist", ["mirror", "data", uri]), {}, "data", [uri], 1) == [uri]
