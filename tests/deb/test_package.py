"""The Debian package, built and installed in a bare Debian 13, where this machine can do that: scripts/test-deb."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 900
"""It takes a minute, and three more where the roots of Debian have to be made first; and there are other tests."""


def test_it_is_built_installed_and_purged_in_a_bare_debian(tmp_path: Path) -> None:
    """All that tests/deb/inside looks at, the demo among it."""
    said = tmp_path / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(
            ["nice", ROOT / "scripts" / "test-deb", "--if-possible"], stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, env=os.environ | {"TMPDIR": str(tmp_path)}, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    text = said.read_text()
    assert process.returncode == 0, text
    if "skipped" in text:
        pytest.skip(text.strip())
    assert "all of it" in text.splitlines()[-1]
