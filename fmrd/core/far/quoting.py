"""Texts in URIs: what needs a % in a canonical one, and what such text says."""

from fmrd.errors import BadRequest

MOST_EXPORT_BYTES = 4096
"""A name on the far side has no more."""

DECIMAL = frozenset(map(str, range(10)))
HEX = DECIMAL | frozenset("abcdefABCDEF")
_PLAIN = DECIMAL | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~/")
"""What needs no % in a canonical one."""


def bad(text: str, why: str) -> BadRequest:
    """Return the error of a URI that is none."""
    return BadRequest(
        "bad_uri", f"{text!r:.300} names no export: {why}", "nbd://host[:port]/export, ssh://host/path, rbd:pool/image"
    )


def query(text: str, words: str, keys: tuple[str, ...]) -> dict[str, str]:
    """Return the values behind the '?' of a URI, "" where a key is not given; BadRequest('bad_uri')."""
    found = dict.fromkeys(keys, "")
    for word in words.split("&") if words else []:
        key, mark, value = word.partition("=")
        if key not in found:
            raise bad(text, f"{key!r} is not known; {', '.join(keys)} are")
        if not mark or not value or found[key]:
            raise bad(text, f"{key} is given once, as {key}=VALUE")
        found[key] = unquoted(text, value)
        if not found[key].isprintable():
            raise bad(text, f"the value of {key} cannot be printed")
    return found


def quoted(text: str) -> str:
    """Return it as it stands in a canonical URI."""
    return "".join(each if each in _PLAIN else "".join(f"%{byte:02X}" for byte in each.encode()) for each in text)


def unquoted(text: str, part: str) -> str:
    """Return what a part of the URI ``text`` says; BadRequest('bad_uri')."""
    found = bytearray()
    at = 0
    while at < len(part):
        if part[at] != "%":
            found += part[at].encode("utf-8", "surrogatepass")
            at += 1
            continue
        digits = part[at + 1 : at + 3]
        if len(digits) < 2 or not set(digits) <= HEX:
            raise bad(text, "a % is followed by two hexadecimal digits")
        found.append(int(digits, 16))
        at += 3
    try:
        decoded = found.decode()
    except UnicodeDecodeError:
        raise bad(text, "it is not UTF-8") from None
    if "\0" in decoded:
        raise bad(text, "there is a zero byte in it")
    return decoded
