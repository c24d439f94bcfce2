"""Mutate the code, one thing at a time, and tell which mutants no test notices: scripts/mutate --help."""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import cache_from_source
from pathlib import Path
from queue import SimpleQueue

from tests.choosing import Chooser, Server, mapped
from tests.mutants_of import Mutant, mutants_of

ROOT = Path(__file__).parents[1]
ARGUED = ROOT / "tests" / "argued_mutants.txt"
"""Mutants that change nothing that anybody can tell, each with the reason: NAME of a survivor, ' | ', why."""
ROOMS = ("core", "dco", "engine", "backing")
SIM = ["tests/sim", "-k", "directed or found_a_bug or 4900"]
STAGES = {
    "core": [["tests/core"], SIM, ["tests/engine"]],
    "dco": [["tests/dco"], SIM, ["tests/engine"]],
    "backing": [["tests/backing"], ["tests/engine/test_power_loss.py"], ["tests/engine"]],
    "engine": [["tests/engine"], SIM],
}
"""What is run for a mutant of a room, until something fails: its own tests first."""
STAGE_SECONDS = 900
QUIET_SECONDS = 60
"""A single test that takes longer hangs, and has noticed."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("--only", metavar="PATH", default="", help="modules below it, like fmrd/dco")
    parser.add_argument("--sample", metavar="N", type=int, help="so many of them, drawn at random")
    parser.add_argument("--seed", metavar="S", type=int, default=1, help="for --sample")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="mutants at once, each in a copy of the tree")
    parser.add_argument("--results", metavar="FILE", type=Path, default=ROOT / "build" / "mutants.jsonl",
                        help="what is in it already, of the same text, is not run again")  # fmt: skip
    parser.add_argument("--again", action="store_true", help="but what survived, and is not argued, is")
    parser.add_argument("--stages", metavar="N", type=int, default=9, help="only the tests that execute it (0), or the "
                        "first N sets of a room as well: what survives them is only suspected")  # fmt: skip
    parser.add_argument("--most", metavar="SECONDS", type=float, default=STAGE_SECONDS, help="of the tests that "
                        "execute it only so many seconds, the cheapest first")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="only say what would be run")
    options = parser.parse_args()
    mutants = [m for room in ROOMS for path in sorted((ROOT / "fmrd" / room).rglob("*.py")) for m in _of(path)]
    chosen = [m for m in mutants if m.path.startswith(options.only)]
    if options.sample is not None:
        chosen = random.Random(options.seed).sample(chosen, min(options.sample, len(chosen)))
    if options.list:
        print("\n".join(f"{m.path}:{m.line}: {m.name.partition(' ')[2]}" for m in chosen))
        return 0
    options.results.parent.mkdir(exist_ok=True)
    known = _known(options.results, options.stages)
    argued = _argued()
    again = {_key(m) for m in chosen if options.again and not known.get(_key(m)) and m.name not in argued}
    left = [m for m in chosen if _key(m) not in known or _key(m) in again]
    with tempfile.TemporaryDirectory(prefix="fmrd-mutants-") as scratch, options.results.open("a") as file:
        trees: SimpleQueue[Server] = SimpleQueue()
        servers = [Server(_copy(Path(scratch) / str(number))) for number in range(options.jobs if left else 0)]
        chooser = Chooser(mapped(servers[0], options.results.with_suffix(".lines")) if left else {}, options.most)
        for server in servers:
            trees.put(server)
        with ThreadPoolExecutor(options.jobs) as pool:
            for mutant, noticed, seconds in pool.map(lambda m: _try(m, trees, chooser, options.stages), left):
                known[_key(mutant)] = noticed
                found = {"key": _key(mutant), "name": mutant.name, "noticed": noticed, "stages": options.stages}
                file.write(json.dumps(found) + "\n")
                file.flush()
                print(f"{noticed or 'SURVIVED'} ({seconds:.1f} s): {mutant.line} {mutant.name}", file=sys.stderr)
        for server in servers:
            server.close()
    return _report(chosen, known)


def _of(path: Path) -> list[Mutant]:
    return mutants_of(path.relative_to(ROOT).as_posix(), path.read_text())


def _key(mutant: Mutant) -> str:
    return hashlib.sha256(f"{mutant.name}\n{mutant.text}".encode()).hexdigest()[:16]


def _known(results: Path, most: int) -> dict[str, str]:
    """By the key of a mutant, which test noticed it; '' if none did."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {
        each["key"]: each["noticed"] for each in map(json.loads, lines) if each["stages"] >= most or each["noticed"]
    }


def _copy(tree: Path) -> Path:
    """What is mutated is never the working tree."""
    ignored = shutil.ignore_patterns("__pycache__", ".*", "build", "*.egg-info")
    shutil.copytree(ROOT, tree, ignore=ignored)
    (tree / ".venv").symlink_to(ROOT / ".venv")
    return tree


def _try(mutant: Mutant, trees: "SimpleQueue[Server]", chooser: Chooser, most: int) -> tuple[Mutant, str, float]:
    """The mutant, the test that noticed it, and how long that took."""
    began = time.monotonic()
    server = trees.get()
    path = server.tree / mutant.path
    text = path.read_text()
    try:
        _put(path, mutant.text)
        noticed = _quickly(mutant, text, server, chooser)
        most = max(most, noticed is None)
        stages = STAGES[Path(mutant.path).parts[1]][:most]
        noticed = noticed or next(filter(None, (_run(server.tree, stage) for stage in stages)), "")
    finally:
        _put(path, text)
        trees.put(server)
    return mutant, noticed, time.monotonic() - began


def _quickly(mutant: Mutant, text: str, server: Server, chooser: Chooser) -> str | None:
    """What failed of the tests that execute it; '' if nothing did, None where they cannot tell."""
    tests = chooser.tests_of(mutant)
    at = noticed = ""
    for answer in server.ask(tests=tests, path=mutant.path, before=text, after=mutant.text) if tests else ():
        if "cannot" in answer:
            tests = []
        elif answer.get("end"):
            noticed = noticed or f"{at} took too long, or ended with {answer['end']}"
        at, noticed = answer.get("at", at), noticed or answer.get("noticed", "")
    if noticed in (test for test, _ in tests):
        chooser.noticed(mutant, noticed)
    return noticed if tests else None


def _put(path: Path, text: str) -> None:
    path.write_text(text)
    Path(cache_from_source(str(path))).unlink(missing_ok=True)  # it is known by whole seconds, and by its length


def _run(tree: Path, stage: list[str]) -> str:
    """What failed there, if anything did."""
    command = [sys.executable, "-m", "pytest", "-xq", "--tb=no", "-p", "no:cacheprovider",
               "-o", f"faulthandler_timeout={QUIET_SECONDS}", *stage]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(tree)}
    with subprocess.Popen(command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True) as tests:  # fmt: skip
        try:
            output, _ = tests.communicate(timeout=STAGE_SECONDS)
        except subprocess.TimeoutExpired:
            tests.send_signal(signal.SIGINT)  # pytest then takes its mounts and loop devices down
            tests.communicate()
            return f"{stage[0]} took too long"
    if tests.returncode == 0:
        return ""
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" - ")[0] if failed else f"{stage[0]} ended with {tests.returncode}"


def _argued() -> set[str]:
    return {line.rpartition(" | ")[0] for line in ARGUED.read_text().splitlines() if line and not line.startswith("#")}


def _report(chosen: list[Mutant], known: dict[str, str]) -> int:
    argued = _argued()
    survivors = [m for m in chosen if not known[_key(m)]]
    for mutant in survivors:
        if mutant.name not in argued:
            print(f"{mutant.path}:{mutant.line}: {mutant.name.partition(' ')[2]}")
    left = [m for m in survivors if m.name not in argued]
    print(f"{len(chosen)} mutants, {len(chosen) - len(survivors)} noticed, {len(survivors) - len(left)} argued, "
          f"{len(left)} survived")  # fmt: skip
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
