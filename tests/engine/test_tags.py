"""Tags go where a verb goes, and end with it."""

import pytest
import trio
import trio.testing

from fmrd.core.names import is_tag
from fmrd.core.reasons import Reason
from fmrd.core.states import TaskType
from fmrd.engine.steering.choosing import fitting, meant
from fmrd.engine.steering.tags import tag_given, tagged
from fmrd.engine.tasks import Task, TaskList
from fmrd.errors import BadRequest, Failed


async def test_what_a_verb_starts_has_its_tag_and_only_while_it_lasts() -> None:
    seen: dict[str, str] = {}
    ended = trio.Event()

    async def left_behind() -> None:
        seen["at once"] = tag_given()
        await ended.wait()
        seen["later"] = tag_given()

    async with trio.open_nursery() as nursery:
        with tagged("night"):
            nursery.start_soon(left_behind)
            await trio.testing.wait_all_tasks_blocked()
            with tagged("inner"):
                assert tag_given() == "inner"
            assert tag_given() == "night"
        assert tag_given() == ""
        ended.set()
    assert seen == {"at once": "night", "later": ""}


async def test_two_verbs_at_once_do_not_mix() -> None:
    both = trio.Event()
    tags: list[str] = []

    async def verb(tag: str) -> None:
        with tagged(tag):
            await both.wait()
            tags.append(tag_given())

    async with trio.open_nursery() as nursery:
        for tag in ("one", "", "two"):
            nursery.start_soon(verb, tag)
        await trio.testing.wait_all_tasks_blocked()
        both.set()
    assert sorted(tags) == ["", "one", "two"]


@pytest.fixture
def tasks() -> TaskList:
    """Of three volumes, the first two under one tag, the second of them done."""
    listed = TaskList(lambda: 0.0)
    for volume, tag in (("one", "night"), ("two", "night"), ("three", "")):
        with tagged(tag):
            new(listed, volume)
    listed.ended(TaskType.VERIFY, "four", "", (Reason.VERIFY, ""))
    return listed


def new(listed: TaskList, volume: str) -> Task:
    return listed.new(TaskType.PLXATT, volume, f"{volume}-02", (Reason.FAST, ""))


def test_which_tasks_are_meant(tasks: TaskList) -> None:
    assert [task.volume for task in meant(tasks, None, "night")] == ["one", "two"]
    assert [task.volume for task in meant(tasks, 4, None)] == ["four"], "it says itself that it has ended"
    tasks.find(1).pause()
    assert len(meant(tasks, None, "night")) == 2, "what is paused has not ended"
    for task in meant(tasks, None, "night"):
        task.abort()
        task.end(task.state)
    with pytest.raises(Failed, match="no task that runs has the tag night"):
        meant(tasks, None, "night")
    for number, tag in ((None, None), (1, "night")):
        with pytest.raises(BadRequest):
            meant(tasks, number, tag)


def test_which_tasks_fit(tasks: TaskList) -> None:
    def found(*, ended: bool = False, **more: object) -> list[str]:
        asked = {"volumes": None, "tag": None, "types": None} | more
        return [task.volume for task in fitting(tasks, ended=ended, **asked)]  # type: ignore[arg-type]  # as given above

    assert found() == ["one", "two", "three"] and found(ended=True)[-1] == "four"
    assert found(volumes=["two", "three"]) == ["two", "three"] and found(volumes=[]) == []
    assert found(volumes=["two", "three"], tag="night") == ["two"]
    assert found(ended=True, types=["VERIFY"]) == ["four"] and found(types=["VERIFY"]) == []


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("night", True), ("7a", True), ("a" * 32, True), ("a" * 33, False), ("7", False), ("", False), ("-x", False),
        ("a b", False),
    ],
)  # fmt: skip
def test_what_a_tag_is(text: str, is_one: bool) -> None:
    assert is_tag(text) is is_one
