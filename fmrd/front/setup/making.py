"""``python -m fmrd.front.setup.making DIRECTORY``: manual pages and completions, as a package has them below share."""

import sys
from collections.abc import Sequence
from pathlib import Path

from fmrd.front.ctl.cli import cli
from fmrd.front.setup.completing import script
from fmrd.front.setup.pages import write
from fmrd.front.setup.sources import sources

COMPLETIONS = {
    "bash": "bash-completion/completions/fmrctl", "zsh": "zsh/vendor-completions/_fmrctl",
    "fish": "fish/vendor_completions.d/fmrctl.fish",
}  # fmt: skip
"""Shell -> where below share it looks for what completes a program."""


def make(share: Path) -> list[Path]:
    """Write all of it below ``share``; return the paths. Failed('no_sources')."""
    made = write(share / "man", sources())
    for shell, place in COMPLETIONS.items():
        path = share / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script(cli, shell).strip() + "\n")
        made.append(path)
    return made


def main(words: Sequence[str]) -> None:
    if len(words) != 1:
        raise SystemExit("usage: python -m fmrd.front.setup.making DIRECTORY")
    for path in make(Path(words[0])):
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
