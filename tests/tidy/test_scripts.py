"""scripts/test: what it runs, in which order, with which exit status, and what it says of each tier."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.tiers import TIERS, counted, table
from tests.vm.__main__ import FIRST, SCENARIOS

ROOT = Path(__file__).parents[2]

STUBS = {
    "scripts/bootstrap": 'echo "bootstrap" >>calls',
    "scripts/prometheus": 'echo "prometheus" >>calls; echo "${PROMETHEUS-/there}"; [ -n "${PROMETHEUS-/there}" ]',
    "scripts/check": 'echo "check" >>calls; [ -z "${FMRD_TIERS:-}" ] || echo "tidy" >"$FMRD_TIERS"; exit ${CHECK:-0}',
    ".venv/bin/python": 'echo "$*" >>calls; [ -z "${FMRD_TIERS:-}" ] || cat "$FMRD_TIERS" >>calls; exit ${PYTEST:-0}',
}
"""What scripts/test calls; each says that it was called, and ends as the environment says."""

TREE = {
    "core/test_a.py": "def test_well(): pass\ndef test_wrong(): assert not 'wrong'\n",
    "core/deep/test_b.py": "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_known(): assert False\n",
    "engine/test_c.py": "import pytest\n@pytest.fixture\ndef broken(): raise OSError\ndef test_setup(broken): pass\n",
    "other/test_d.py": "import pytest\npytest.skip('nothing here', allow_module_level=True)\n",
    "sim/test_e.py": "import pytest\n@pytest.mark.parametrize('n', range(3))\ndef test_each(n): pass\n",
}
EXPECTED = [
    ("core", "1 passed, 1 failed, 1 xfailed"), ("engine", "1 error"), ("sim", "3 passed"), ("other", "1 skipped"),
]  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which only scripts/test is real."""
    for name, script in STUBS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{script}\n")
        path.chmod(0o755)
    shutil.copy(ROOT / "scripts" / "test", tmp_path / "scripts" / "test")
    return tmp_path


def run(checkout: Path, *words: str, **environment: str) -> tuple[int, list[str]]:
    """The exit status, and what was called."""
    done = subprocess.run([checkout / "scripts" / "test", *words], env=clean() | environment, timeout=60)
    return done.returncode, (checkout / "calls").read_text().splitlines()


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("FMRD_", "PYTEST_"))}


def test_the_check_comes_first_and_its_tests_run_once(checkout: Path) -> None:
    status, [first, _, second, alone, _, third, passed_on] = run(checkout)
    assert (status, first, second, passed_on) == (0, "bootstrap", "check", "tidy")
    assert alone.startswith("-m pytest ") and alone.endswith(" tests/ceph")
    assert third.startswith("-m pytest ") and third.endswith(" --ignore=tests/tidy --ignore=tests/ceph")


def test_arguments_go_to_pytest_and_nothing_else_runs(checkout: Path) -> None:
    status, [first, _, second] = run(checkout, "-k", "a name", "tests/tidy")
    assert (status, first) == (0, "bootstrap")
    assert second.endswith(" -k a name tests/tidy") and "--ignore" not in second


def test_what_fails_makes_it_fail(checkout: Path) -> None:
    status, calls = run(checkout, CHECK="3")
    assert (status, calls[-1]) == (3, "check")
    assert run(checkout, PYTEST="4")[0] == 4
    assert run(checkout, "-x", PYTEST="5")[0] == 5


def test_prometheus_is_fetched_once_and_not_having_it_fails_nothing(checkout: Path) -> None:
    status, calls = run(checkout, "-x", PROMETHEUS="")
    assert (status, calls[:2]) == (0, ["bootstrap", "prometheus"])


FETCHING = {
    "apt-get": """
echo "apt-get $*" >>"$CALLS"
[ -n "${HAS:-}" ] || { echo "E: no network"; exit 100; }
touch prometheus_1.deb""",
    "dpkg-deb": """
mkdir -p "$3/usr/bin"
for name in promtool prometheus; do
    echo "#!/bin/sh" >"$3/usr/bin/$name"
    chmod +x "$3/usr/bin/$name"
done""",
}
TOOLS = "bash sh mktemp mkdir rm mv tail touch timeout flock id dirname env chmod"
"""In the place of what fetches a package, and unpacks it."""


def test_prometheus_is_unpacked_and_not_installed(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, script in FETCHING.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    for name in TOOLS.split():
        (tmp_path / "bin" / name).symlink_to(str(shutil.which(name)))
    environment = {"PATH": str(tmp_path / "bin"), "CALLS": str(tmp_path / "calls"),
                   "FMRD_PROMETHEUS_CACHE": str(tmp_path / "cache")}  # fmt: skip

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        command = [ROOT / "scripts" / "prometheus"]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=60, check=False)

    failed = run()
    assert (failed.returncode, failed.stdout) == (1, "") and "cannot be fetched: E: no network" in failed.stderr
    (tmp_path / "calls").unlink()
    for _ in range(2):
        fetched = run(HAS="it")
        assert (fetched.returncode, fetched.stdout) == (0, f"{tmp_path}/cache/bin\n"), fetched.stderr
    assert len((tmp_path / "calls").read_text().splitlines()) == 1 and "download" in (tmp_path / "calls").read_text()
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["bin", "lock"]
    (tmp_path / "cache" / "bin" / "promtool").write_text("#!/bin/sh\nexit 1\n")
    assert run(HAS="it").returncode == 0, "what does not run is fetched anew"
    for name in ("promtool", "prometheus"):
        (tmp_path / "cache" / "bin" / name).rename(tmp_path / "bin" / name)
    assert run().stdout == f"{tmp_path}/bin\n", "what is installed is taken"


def run_pytest(place: Path, *words: str, **environment: str) -> tuple[int, list[str]]:
    """The exit status, and the lines of its output."""
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "tests.tiers", "-p", "no:cacheprovider", *words]
    environment = clean() | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment
    done = subprocess.run(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True, timeout=60)
    return done.returncode, done.stdout.splitlines()


def rows(lines: list[str]) -> list[tuple[str, str]]:
    """(tier, outcomes) of the table."""
    found = [re.fullmatch(r"(\w+) +(\d.*?) +\d+\.\d s", line) for line in lines]
    return [(row[1], row[2]) for row in found if row is not None]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for name, source in TREE.items():
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path


@pytest.mark.parametrize("workers", ["0", "2"])
def test_each_tier_says_what_became_of_its_tests(tree: Path, workers: str) -> None:
    status, lines = run_pytest(tree, "-n", workers, "tests")
    assert (status, rows(lines)) == (1, EXPECTED)
    assert re.search(r"1 failed, 4 passed, 1 skipped, 1 xfailed, 1 error in", lines[-1]), "pytest has the last word"


def test_a_tier_that_this_machine_cannot_run_says_so(tree: Path) -> None:
    (tree / "tests" / "ceph").mkdir()
    (tree / "tests" / "ceph" / "test_g.py").write_text("import pytest\ndef test_well(): pytest.skip('no cluster')\n")
    _, lines = run_pytest(tree, "tests")
    assert ("ceph", "1 skipped") in rows(lines)
    assert "ceph       did not run: it needs ceph-mon, ceph-osd and python3-rbd" in "\n".join(lines)


def test_what_one_run_counted_the_next_one_says_too(tree: Path) -> None:
    between = str(tree / "between")
    tidy = tree / "tests" / "tidy" / "test_f.py"
    tidy.parent.mkdir()
    tidy.write_text("def test_well(): pass\n")
    status, lines = run_pytest(tree, "-q", "tests/tidy", FMRD_TIERS=between)
    assert (status, rows(lines)) == (0, []), "one tier is what the closing line is about"
    status, lines = run_pytest(tree, "--ignore=tests/tidy", FMRD_TIERS=between)
    assert (status, rows(lines)) == (1, [("tidy", "1 passed"), *EXPECTED])


def test_seconds_are_those_of_setup_call_and_teardown() -> None:
    parts = [SimpleNamespace(nodeid="tests/core/test_a.py::test_a", duration=seconds) for seconds in (0.5, 2.0, 1.0)]
    tally = counted({"": [parts[0], parts[2]], "passed": [parts[1]]})
    assert tally == {"core": {"passed": 1, "seconds": 3.5}}
    assert table(tally) == ["core       1 passed     3.5 s"]


def test_every_folder_of_tests_is_a_tier() -> None:
    assert {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")} == set(TIERS)


def run_test_vm(tmp_path: Path, *words: str) -> tuple[int, str]:
    """scripts/test-vm, with bash where it has no program but those that a shell needs; and what it said."""
    checkout = tmp_path / "checkout"
    for name, script in STUBS.items():
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)
    script = (ROOT / "scripts" / "test-vm").read_text().replace("PATH=$PATH:/usr/sbin:/sbin", "")
    (checkout / "scripts" / "test-vm").write_text(script)
    programs = tmp_path / "programs"
    programs.mkdir(exist_ok=True)
    for name in ("xargs", "echo", "dirname", "id"):
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(str(shutil.which(name)))
    command = ["/bin/bash", checkout / "scripts" / "test-vm", *words]
    done = subprocess.run(command, env={"PATH": str(programs)}, stderr=subprocess.PIPE, text=True, timeout=60)
    return done.returncode, done.stderr


def test_the_machine_says_which_packages_it_needs_and_begins_nothing(tmp_path: Path) -> None:
    status, said = run_test_vm(tmp_path)
    assert status == 1
    assert "missing: qemu-system-x86 qemu-utils mmdebstrap e2fsprogs" in said and "--install" in said
    assert not (tmp_path / "checkout" / "calls").exists()


def test_with_its_packages_the_machine_runs_what_was_named(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("qemu-system-x86_64", "qemu-img", "mmdebstrap", "mke2fs"):
        (programs / name).symlink_to("/bin/true")
    status, said = run_test_vm(tmp_path, "rebooted")
    if "debian-archive-keyring" in said:
        pytest.skip("no Debian")
    assert (status, said) == (0, "")
    assert (tmp_path / "checkout" / "calls").read_text().splitlines() == ["bootstrap", "-m tests.vm rebooted"]


def test_what_takes_a_machine_is_run_by_hand_only() -> None:
    for name in ("scripts/test", "scripts/check", ".ci/run"):
        assert "test-vm" not in (ROOT / name).read_text() and "tests.vm" not in (ROOT / name).read_text()


def test_each_scenario_has_a_name_and_a_row_of_its_own() -> None:
    assert len({scenario.__name__ for scenario in SCENARIOS}) == len(SCENARIOS)
    rows = [str(scenario.__doc__) for scenario in SCENARIOS]
    assert len(set(rows)) == len(rows) and all(re.fullmatch(r"\S[^\n.]+", row) for row in rows)
    assert SCENARIOS[: len(FIRST)] == FIRST
    [named] = re.findall(r"^\./scripts/test-vm (\w+(?: \w+)*) +#", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert set(named.split()) < {scenario.__name__ for scenario in SCENARIOS}


def test_an_environment_that_belongs_to_another_checkout_is_not_made_anew(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "pip").write_text("somebody uses this")
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "scripts/bootstrap"):
        shutil.copy(ROOT / name, checkout / name)
    (checkout / ".venv").symlink_to(theirs)
    done = subprocess.run([checkout / "scripts" / "bootstrap"], env=clean(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and ".venv is a link" in done.stderr
    assert (theirs / "pip").read_text() == "somebody uses this"
