"""pytest, with everything imported and collected, that forks to try a mutant: a plugin of scripts/mutate.

Lines of JSON on the socket FMRD_MUTANTS. First what there is: [nodeid, ...]. Asked: {"tests": [[nodeid, most seconds],
...]}, and {"path", "before", "after"} of a module whose text changed on disk as well, or {"map": true}. Answered:
{"at": nodeid} before each test, {"noticed": nodeid} for the first that fails, {"cannot": why}; for the map {"test",
"seconds", "lines": {path: [line, ...]}} of each that passes; at last {"end": exit status}.
"""

import gc
import json
import os
import re
import resource
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import coverage
import pytest

MOST_MEMORY = 8 << 30
"""Of a mutant that takes memory without end."""
failed: list[str] = []
"""Tests that failed in this process, or in their set-up or tear-down."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A hook of pytest."""
    if report.failed:
        failed.append(report.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """A hook of pytest: in place of one run of all tests, a process for each that is asked for."""
    scratch = session.config.rootpath.with_name(session.config.rootpath.name + "-scratch")
    items = {item.nodeid: item for item in session.items if _quick(item.nodeid)}
    with socket.socket(fileno=int(os.environ["FMRD_MUTANTS"])) as line, line.makefile("rw") as asked:
        print(json.dumps(list(items)), file=asked, flush=True)
        for each in asked:
            request = json.loads(each)
            if (child := os.fork()) == 0:
                try:
                    _work(items, request, asked, scratch)
                    os._exit(0)
                except BaseException as error:
                    print(json.dumps({"noticed": f"{error!r}"}), file=asked, flush=True)
                    os._exit(1)
            _, status = os.waitpid(child, 0)
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # nothing that a test began outlives it
            shutil.rmtree(scratch, ignore_errors=True)
            print(json.dumps({"end": os.waitstatus_to_exitcode(status)}), file=asked, flush=True)
    return True


def _quick(nodeid: str) -> bool:
    """Of the simulation only what was written for something: its hunts are long, and find what others find. And nothing
    that freezes a file system: ended in its midst it leaves that frozen, and whoever comes by waits for good.
    """
    if "tests/sim/" in nodeid:
        return bool(re.search("directed|found_a_bug|4900", nodeid))
    return "ring/test_hung.py" not in nodeid


def _work(items: dict[str, pytest.Item], request: dict[str, Any], asked: Any, scratch: Path) -> None:
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    tests = [(items[nodeid], seconds) for nodeid, seconds in request["tests"]]
    config = tests[0][0].config
    config._tmp_path_factory._given_basetemp = scratch  # type: ignore[attr-defined]  # pytest made it for one run only
    if "path" in request:
        try:
            put(os.path.abspath(request["path"]), request["before"], request["after"])
        except ValueError as error:
            print(json.dumps({"cannot": str(error)}), file=asked, flush=True)
            return
        for item, seconds in tests:
            print(json.dumps({"at": item.nodeid}), file=asked, flush=True)
            _run(item, seconds)
            if failed:
                print(json.dumps({"noticed": item.nodeid}), file=asked, flush=True)
                return
    else:
        for answer in _mapped(tests):
            print(json.dumps(answer), file=asked, flush=True)


def _run(item: pytest.Item, most: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, most)  # SIGALRM then ends the process, whatever it waits for
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _mapped(tests: list[tuple[pytest.Item, float]]) -> Iterator[dict[str, Any]]:
    """Which lines of the package each test executes, if it passes, and in how many seconds."""
    package = Path.cwd() / "fmrd"
    recorder = coverage.Coverage(data_file=None, config_file=False, include=[f"{package}/*"], messages=False)
    recorder.start()
    seconds = {}
    for item, most in tests:
        recorder.switch_context(item.nodeid)
        began = time.perf_counter()
        _run(item, most)
        seconds[item.nodeid] = time.perf_counter() - began
    recorder.stop()
    data = recorder.get_data()
    lines: dict[str, dict[str, list[int]]] = {nodeid: {} for nodeid in seconds}
    for path in data.measured_files():
        name = os.path.relpath(path)
        for number, contexts in data.contexts_by_lineno(path).items():
            for nodeid in filter(None, contexts):
                lines[nodeid].setdefault(name, []).append(number)
    for nodeid in seconds.keys() - set(failed):
        yield {"test": nodeid, "seconds": round(seconds[nodeid], 4), "lines": lines[nodeid]}


def put(path: str, before: str, after: str) -> None:
    """Give the functions of an imported module the code of another text of it.

    Raises ValueError where that is not enough: what changed is not in a function, or closes over something else.
    """
    old, new = (dict(_codes(compile(text, path, "exec"), Counter())) for text in (before, after))
    changed = {(code.co_qualname, code.co_firstlineno): new.get(key) for key, code in old.items()}
    differs = {(code.co_qualname, code.co_firstlineno) for key, code in old.items() if code != new.get(key)}
    found = [each for each in gc.get_objects() if isinstance(each, FunctionType) and each.__code__.co_filename == path]
    where = {id(each): (each.__code__.co_qualname, each.__code__.co_firstlineno) for each in found}
    if differs.isdisjoint(where.values()):
        raise ValueError("what changed is in no function")
    for each in found:
        if where[id(each)] in differs and (code := changed[where[id(each)]]):
            each.__code__ = code


def _codes(code: CodeType, seen: Counter[str]) -> Iterator[tuple[tuple[str, int], CodeType]]:
    """All code in some code, by its name and which of that name it is: its line may move."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            seen[inner.co_qualname] += 1
            yield (inner.co_qualname, seen[inner.co_qualname]), inner
            yield from _codes(inner, seen)
