"""The file in the state directory that remembers stores: read as if from a stranger."""

import json
from collections.abc import Iterable

from fmrd.core.names import GIVEN_LENGTH, is_name
from fmrd.core.stores.declared import MOST_BYTES, MOST_STORES, Declared, is_directory, what_is_wrong

FORMAT = 1
"""Another one is not read, and never written over."""
MOST_FILE_BYTES = 1 << 20


def encode(stores: Iterable[Declared]) -> bytes:
    """Return the file that remembers these."""
    body = {"format": FORMAT, "stores": [store.json() for store in stores]}
    return (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()


def decode(data: bytes) -> tuple[Declared, ...]:
    """Return the stores that a file remembers; ValueError, with a sentence, for anything that is not wholly one."""
    if len(data) > MOST_FILE_BYTES:
        raise ValueError(f"it is longer than {MOST_FILE_BYTES} bytes")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT or type(body["format"]) is not int:
        raise ValueError(f"it is not of format {FORMAT}")
    found = body.get("stores")
    if not isinstance(found, list) or len(found) > MOST_STORES:
        raise ValueError(f"it has no list of at most {MOST_STORES} stores")
    stores = tuple(_store(each) for each in found)
    if len({s.name for s in stores}) < len(stores) or len({s.directory for s in stores}) < len(stores):
        raise ValueError("two stores have one name, or one directory")
    return stores


def _store(found: object) -> Declared:
    known = {"name", "directory", "size_bytes", "step_bytes", "most_bytes", "high_water"}
    if not isinstance(found, dict) or found.keys() != known:
        raise ValueError("a store has other fields than it should")
    name, directory = found["name"], found["directory"]
    numbers = [found[key] for key in ("size_bytes", "step_bytes", "most_bytes", "high_water")]
    if not isinstance(name, str) or not is_name(name, GIVEN_LENGTH):
        raise ValueError("a store has no name")
    if not isinstance(directory, str) or not is_directory(directory):
        raise ValueError(f"store {name} has no directory")
    if not all(type(number) is int and 0 <= number <= MOST_BYTES for number in numbers):
        raise ValueError(f"store {name} has a size that cannot be")
    store = Declared(name, directory, *numbers)
    if (why := what_is_wrong(store)) is not None:
        raise ValueError(f"store {name}: {why}")
    return store
