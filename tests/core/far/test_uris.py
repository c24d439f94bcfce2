"""A URI is read in one way, written in one way, and refused where any part of it is not known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmrd.core.far.images import ImageUri
from fmrd.core.far.uris import NbdUri, Uri, canonical, is_fenced, is_uri, read_uri
from fmrd.errors import BadRequest


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("nbd://host/disk", NbdUri("disk", "host")),
        ("NBD://Host.Example:10809/disk", NbdUri("disk", "host.example")),
        ("nbd://10.0.0.1:10810/", NbdUri("", "10.0.0.1", 10810)),
        ("nbd://[fd00::1]:7/a/b", NbdUri("a/b", "fd00::1", 7)),
        ("nbds://h/x?tls-certificates=/etc/pki", NbdUri("x", "h", tls=True, certificates="/etc/pki")),
        ("nbds://me@h/x?tls-psk-file=/k", NbdUri("x", "h", tls=True, user="me", keys="/k")),
        ("nbds+unix://me@/x?socket=/s&tls-psk-file=/k", NbdUri("x", socket="/s", tls=True, user="me", keys="/k")),
        ("nbds://h/x?tls-hostname=other", NbdUri("x", "h", tls=True, hostname="other")),
        ("nbd+unix:///x?socket=/run/nbd", NbdUri("x", socket="/run/nbd")),
        ("nbd://h/a%20b%2fc?x-fence=single", NbdUri("a b/c", "h", fence="single")),
        ("nbd://h/%C3%A4", NbdUri("ä", "h")),
        ("ssh://h/srv/far.plex", NbdUri("", "h", 0, fence="lock", path="/srv/far.plex")),
        ("ssh://Me@H:22/a%20b", NbdUri("", "h", 22, fence="lock", user="Me", path="/a b")),
        ("rbd:pool/image", ImageUri("pool", "image")),
        ("rbd:pool/space/disk%2C1?id=fmrd&conf=/etc/x", ImageUri("pool", "disk,1", "space", "/etc/x", "fmrd")),
    ],
)
def test_what_is_meant(text: str, meant: Uri) -> None:
    assert read_uri(text) == meant
    assert read_uri(str(meant)) == meant and canonical(str(meant)) == str(meant)


@pytest.mark.parametrize(
    "text",
    [
        "nbd://host", "nbd:///disk", "http://host/disk", "nbd://host:0/x", "nbd://host:65536/x", "nbd://host:x/y",
        "nbd://[fd00::1/x", "nbd://[fd00::1]7/x", "nbd://[host]/x", "nbd://ho st/x", "nbd://host/x#y", "nbd://host/%4",
        "nbd://host/%zz", "nbd://host/%00", "nbd://host/%ff", "nbd://h/x?socket=/s", "nbd+unix:///x",
        "nbd+unix://host/x?socket=/s", "nbd://h/x?x-fence=singel", "nbd://h/x?x-fenc=single", "nbd://h/x?x-fence=",
        "nbd://h/x?x-fence=single&x-fence=single", "nbd://h/x?tls-certificates=/c", "nbd://user@h/x",
        "nbds://user:secret@h/x", "nbds://h/x?tls-psk-file=/k", "nbd://me@h/x?tls-psk-file=/k", "nbds://me@h/x",
        "nbds://me:key@h/x?tls-psk-file=/k", "nbds://me@h/x?tls-psk-file=/k&tls-certificates=/c",
        "nbd://h/x?x-fence=single&", "nbd://h/" + "x" * 5000,
        "nbd+unix:///x?socket=%1b", "://h/x", "nbd://h/x?", "ssh://h", "ssh://h/", "ssh://h/dir/", "ssh:///x",
        "ssh://me:secret@h/x", "ssh://-oProxyCommand=x/y", "ssh://-h/y", "ssh://-l@h/y", "ssh://@h/y", "ssh://h/x?y=z",
        "ssh://h/%0a", "ssh://h/" + "x" * 5000, "rbd:", "rbd:image", "rbd:/image", "rbd:pool/", "rbd:a/b/c/d",
        "rbd:pool/image@snap", "rbd:pool/image%40snap", "rbd:pool/image#x", "rbd:pool/%0a", "rbd:pool/a%2Fb",
        "rbd:pool/image?key=secret", "rbd:pool/image?id=", "rbd:pool/image?id=a%20b", "rbd:pool/" + "x" * 5000,
        "rbd:pool/image?id=client.fmrd",
    ],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    if text == "nbd://h/x?":
        assert canonical(text) == "nbd://h/x"
        return
    with pytest.raises(BadRequest, match="bad_uri"):
        read_uri(text)


@pytest.mark.parametrize(
    "text", ["/dev/sda", "plex.img", "/tmp/a://b", "data-01", "./nbd:/x", "./rbd:x", "/srv/rbd:x/y"]
)
def test_a_path_is_none(text: str) -> None:
    assert not is_uri(text)


def test_the_same_export_is_one_however_it_is_reached() -> None:
    first = read_uri("nbds://Host/x?tls-certificates=/c&x-fence=single")
    assert first.identity == read_uri("nbd://host:10809/x").identity
    assert first.identity != read_uri("nbd://host/y").identity


def test_an_image_is_one_whoever_asks_for_it_and_has_a_fence() -> None:
    assert read_uri("rbd:pool/x?id=a").identity == read_uri("rbd:pool/x").identity
    assert read_uri("rbd:pool/x?conf=/a").identity != read_uri("rbd:pool/x").identity
    assert is_fenced("rbd:pool/x") and not is_fenced("nbd://h/x")


def test_paths_in_it_become_absolute() -> None:
    assert str(read_uri("rbd:p/i?conf=c").with_paths(lambda path: f"/here/{path}")) == "rbd:p/i?conf=/here/c"
    uri = read_uri("nbds+unix:///x?socket=s&tls-certificates=c").with_paths(lambda path: f"/here/{path}")
    assert str(uri) == "nbds+unix:///x?socket=/here/s&tls-certificates=/here/c"


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
_printable = _texts.filter(str.isprintable)


@given(
    _texts, st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True), st.integers(1, 65535), _printable,
    st.booleans(), _printable, _printable, st.sampled_from(["", "single"]),
)  # fmt: skip
def test_each_is_read_as_it_was_written(
    export: str, host: str, port: int, socket: str, tls: bool, certificates: str, hostname: str, fence: str
) -> None:
    there = ("", NbdUri.port, socket) if socket else (host, port, "")
    uri = NbdUri(export, *there, tls, certificates if tls else "", hostname if tls else "", fence)
    assert read_uri(str(uri)) == uri
    if socket and not socket.endswith("/"):
        file = NbdUri("", host, port, fence="lock", path="/" + socket)
        assert read_uri(str(file)) == file
    assert str(uri).isascii() and str(uri).isprintable()


@given(st.text(max_size=60))
def test_no_text_breaks_it(rest: str) -> None:
    for scheme in ("nbd", "nbds", "nbd+unix"):
        try:
            uri = read_uri(f"{scheme}://{rest}")
        except BadRequest:
            continue
        assert canonical(str(uri)) == str(uri)
