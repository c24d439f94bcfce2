"""The rows in the JSON of a record: anything odd is TypeError or ValueError."""

from fmrd.core.geometry import MAX_PAGES
from fmrd.core.json_object import Json
from fmrd.core.record import Record
from fmrd.core.records.rows import MOST_BANKS, MOST_RUNS, Rows, Runs
from fmrd.dco.values import count, items


def row_fields(record: Record) -> Json:
    """Return what a body says of rows: nothing where there is one bank."""
    return {"rows": [list(run) for run in record.runs]} if record.runs else {}


def read_rows(value: object, columns: int) -> Runs:
    """Return the runs that a body tells, none without that field; TypeError or ValueError."""
    if value is None:
        return ()
    runs = tuple(_run(each) for each in items(value))
    if not 0 < len(runs) <= MOST_RUNS or any(bank not in range(MOST_BANKS) for bank, _ in runs):
        raise ValueError(f"{len(runs)} runs of rows, or a bank that cannot be")
    known = Rows(columns, runs)
    if list(dict.fromkeys(bank for bank, _ in runs)) != list(range(known.banks)):
        raise ValueError("banks are not in order")
    for bank in range(known.banks):
        if sum(pages for each, pages in runs if each == bank) > MAX_PAGES:
            raise ValueError(f"bank {bank} has more than {MAX_PAGES} rows")
    return runs


def _run(value: object) -> tuple[int, int]:
    bank, pages = items(value)
    if count(pages) == 0:
        raise ValueError("a run without rows")
    return count(bank), count(pages)
