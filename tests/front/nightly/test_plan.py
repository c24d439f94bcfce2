"""The plan of a volume's nights: what it may say, and that each thing it may not is refused with a sentence."""

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.errors import BadRequest
from fmrd.front.nightly.plan import REFRESH, Send, plans_in, read_plan

WHOLE = """
[night]
every = "12h"
late = "90m"
[snapshot]
take = "new"
into = "/srv/snapshots"
name = "%v-%Y%m%d"
freeze = "/srv/data"
[prune]
last = 2
daily = 7
[send]
through = ["ssh", "second"]
volume = "copy"
compress = "zstd"
rate = "10M"
[hooks]
before = ["/usr/local/sbin/before"]
taken = ["/usr/local/sbin/backup", "--all"]
seconds = 60
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "data.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_all_that_it_may_say(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path, WHOLE))
    assert (plan.volume, plan.take, plan.into, plan.name) == ("data", "new", "/srv/snapshots", "%v-%Y%m%d")
    assert (plan.every, plan.late, plan.patience) == (43200, 5400, 48600)
    assert plan.freeze == "/srv/data" and plan.keep == {"last": 2, "daily": 7}
    assert plan.send == Send(("ssh", "second"), "copy", "zstd", 10 << 20)
    assert plan.hooks["taken"] == ("/usr/local/sbin/backup", "--all") and plan.hook_seconds == 60


def test_a_refresh_needs_no_more_than_that(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path, '[snapshot]\ntake = "refresh"\n'))
    assert (plan.take, plan.name, plan.every, plan.keep, plan.send) == (REFRESH, "SNAP-data", 86400, {}, None)


NEW = '[snapshot]\ninto = "/s"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no [snapshot]"),
        ("snapshot = 3", "must be a table"),
        ("[snapshots]\n", "has 'snapshots' in the file"),
        ('[snapshot]\ntake = "copy"\n', "neither"),
        ('[snapshot]\ntake = "new"\n', "needs [snapshot] into"),
        ('[snapshot]\ntake = "refresh"\ninto = "/s"\n', "needs [snapshot] into"),
        ('[snapshot]\ninto = "s"\n', "not an absolute path"),
        (NEW + 'freeze = "data"\n', "not an absolute path"),
        (NEW + 'name = "data"\n', "the same every night"),
        (NEW + 'name = "%v %d"\n', "no name of a volume"),
        (NEW + 'name = "../%d"\n', "no name of a volume"),
        (NEW + 'frezee = "/srv"\n', "has 'frezee' in [snapshot]"),
        (NEW + "into = 3\n", "is not TOML"),
        (NEW + '[night]\nevery = "daily"\n', "no time up to a year"),
        (NEW + '[night]\nlate = "0h"\n', "no time up to a year"),
        (NEW + '[night]\nevery = "400d"\n', "no time up to a year"),
        (NEW + '[prune]\nlast = "2"\n', "must be a whole number"),
        (NEW + "[prune]\nlast = -1\n", "below 0"),
        (NEW + "[prune]\nlast = 0\n", "keeps nothing"),
        (NEW + '[send]\nvolume = "x"\n', "without through"),
        (NEW + "[send]\nthrough = []\n", "must be a list"),
        (NEW + '[send]\nthrough = ["ssh", 3]\n', "must be a list"),
        (NEW + '[send]\nthrough = ["ssh"]\nvolume = "a/b"\n', "no name of a volume"),
        (NEW + '[send]\nthrough = ["ssh"]\ncompress = "gzip"\n', "only \"zstd\""),
        (NEW + '[send]\nthrough = ["ssh"]\nrate = "fast"\n', "not a size"),
        (NEW + '[hooks]\nbefore = "/bin/true"\n', "must be a list"),
        (NEW + '[hooks]\nbefore = ["true"]\n', "absolute path"),
        (NEW + "[hooks]\nseconds = 0\n", "not from 1"),
    ],
)  # fmt: skip
def test_what_it_may_not_say_is_refused_with_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_plan(written(tmp_path, text))
    assert caught.value.code == "bad_conf"
    assert said in caught.value.message and str(tmp_path / "data.toml") in caught.value.message


def test_one_that_others_may_write_is_not_heeded(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    path.chmod(0o666)
    with pytest.raises(BadRequest, match="others may write"):
        read_plan(path)
    path.chmod(0o600)
    tmp_path.chmod(0o777)
    with pytest.raises(BadRequest, match="others may write"):
        read_plan(path)


@given(st.text(max_size=200), st.sampled_from(["", NEW, *(f"[{name}]\n" for name in ("night", "send", "hooks"))]))
def test_whatever_is_in_the_file_it_is_a_plan_or_refused(text: str, head: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.toml"
        path.write_bytes((head + text).encode(errors="replace"))
        path.chmod(0o600)
        with contextlib.suppress(BadRequest):
            assert read_plan(path).volume == "data"


def test_plans_are_named_after_their_volumes(tmp_path: Path) -> None:
    for name in ("data.toml", "data.toml~", ".x.toml", "README", "b a.toml"):
        (tmp_path / name).write_text("")
    assert plans_in(tmp_path) == {"data": tmp_path / "data.toml"}
    assert plans_in(tmp_path / "none") == {}
