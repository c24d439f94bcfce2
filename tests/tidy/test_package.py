"""debian/ and pyproject.toml say the same: the version, what fmrd needs, and that what is packed is in the tree."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTROL = (ROOT / "debian" / "control").read_text()
RULES = (ROOT / "debian" / "rules").read_text()
IN_DEBIAN_13 = {
    "trio": "0.29.0",
    "outcome": "1.2.0",
    "bitarray": "2.9.2",
    "pyfuse3": "3.4.0",
    "click": "8.1.8",
    "rich": "13.9.4",
    "prometheus-client": "0.21.1",
}
"""What Debian 13 has of what fmrd needs."""


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def test_the_version_is_one() -> None:
    version = PYPROJECT["project"]["version"]
    assert re.match(r"fmrd \(([^)]+)\)", (ROOT / "debian" / "changelog").read_text())[1] == version  # type: ignore[index]  # it matches
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None and newest[1] == version


def test_what_fmrd_needs_debian_13_has() -> None:
    needed = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", each).groups() for each in PYPROJECT["project"]["dependencies"])  # type: ignore[union-attr]  # it matches
    assert needed.keys() <= IN_DEBIAN_13.keys()
    for name, least in needed.items():
        assert numbers(IN_DEBIAN_13[name]) >= numbers(least), name
        assert f"python3-{name}" in CONTROL, name


def test_pyfuse3_is_recommended_and_not_required() -> None:
    assert "Recommends: python3-pyfuse3" in CONTROL
    assert (ROOT / "debian" / "py3dist-overrides").read_text().split() == ["pyfuse3"]


def test_what_is_packed_is_in_the_tree() -> None:
    for pattern in [each for group in PYPROJECT["tool"]["setuptools"]["data-files"].values() for each in group]:
        assert list(ROOT.glob(pattern)), pattern
    for path in re.findall(r"(?:install|\$\(here\)) ((?:systemd|scripts|udev|docs)/[\w./*-]+)", RULES):
        assert list(ROOT.glob(path)), path
