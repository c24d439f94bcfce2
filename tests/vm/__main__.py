"""``python -m tests.vm [NAME...]``: the scenarios in a machine, one after the other, as a table (scripts/test-vm)."""

import argparse
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.vm import booting, changing, failing, living, plugging
from tests.vm.fmrd import DISKS
from tests.vm.machine import Failed, Machine, machine

Scenario = Callable[[Machine], str]
SCENARIOS: tuple[Scenario, ...] = (
    living.set_up, living.make_on_devices, living.make_on_file_systems, living.stopped_and_started, living.restarted,
    living.told,
    living.killed, living.killed_again_and_again, living.broken_upgrade, living.leads_back, living.freezing_itself,
    failing.fails, failing.fails_now_and_then, failing.hangs, failing.hangs_and_restart, failing.hangs_and_kill,
    plugging.recognised, plugging.plugged, booting.rebooted, booting.in_fstab, booting.late,
    booting.power_cut, booting.missing, changing.units, changing.purged, changing.upgraded, changing.way_back,
)  # fmt: skip
"""In this order: each goes on with the machine that the one before has left."""
FIRST = SCENARIOS[:3]
"""They make what all others need."""


def tried(vm: Machine, scenario: Scenario) -> bool:
    """Run one, and print its row."""
    began = time.monotonic()
    try:
        if scenario not in FIRST:
            if not vm.running:
                vm.power_on()
            failing.well_again(vm)
        seen, fine = scenario(vm), True
    except Failed as failed:
        seen, fine = str(failed), False
    except Exception:
        seen, fine = traceback.format_exc(), False
    took = time.monotonic() - began
    print(f"{'ok' if fine else 'FAILED':6} {took:4.0f} s  {scenario.__doc__}: {seen}", flush=True)
    if not fine:
        keep_journal(vm, scenario)
    return fine


def keep_journal(vm: Machine, scenario: Scenario) -> None:
    """What the machine says of it, for whoever looks for the cause."""
    try:
        said = vm.ask("journalctl --no-pager -b | tail -n 400; ps -eo pid,stat,wchan:32,args; dmsetup table")["output"]
    except Failed as failed:
        said = str(failed)
    path = vm.place / f"{scenario.__name__}.journal"
    path.write_text(said)
    print(f"       its journal: {path}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/test-vm", description=__doc__)
    names = [scenario.__name__ for scenario in SCENARIOS if scenario not in FIRST]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these, of {', '.join(names)}")
    parser.add_argument("--keep", action="store_true", help="keep the machine's disks and console, and say where")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    chosen = [each for each in SCENARIOS if each in FIRST or not asked.names or each.__name__ in asked.names]
    place = Path(tempfile.mkdtemp(prefix="fmrd-vm."))
    began = time.monotonic()
    with machine(place, DISKS) as vm:
        fine = [tried(vm, scenario) for scenario in chosen]
    took = time.monotonic() - began
    print(f"{sum(fine)} ok, {len(fine) - sum(fine)} failed, {took / 60:.0f} minutes")
    if asked.keep or not all(fine):
        print(f"disks, console and journals: {place}")
    else:
        shutil.rmtree(place)
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
