"""TLS by a pre-shared key, with nbdkit. Python can from 3.13 on; an older one says so."""

import ssl
from pathlib import Path

import pytest

from fmrd.backing.host import LinuxHost
from fmrd.backing.nbd.speaking.psk import psk_context, read_key
from fmrd.core.far.uris import NbdUri
from fmrd.errors import Failed
from tests.certificates import authority
from tests.e2e.harness import needs_program
from tests.nbd_servers import disk, nbdkit_file, serving

KEY, OTHER = "ab" * 32, "cd" * 32
CAN = hasattr(ssl.SSLContext, "set_psk_client_callback")
needs_psk = pytest.mark.skipif(not CAN, reason="needs Python 3.13")


def keys(where: Path, name: str, text: str, mode: int = 0o600) -> Path:
    path = where / name
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_key_of_one_of_several_is_found(tmp_path: Path) -> None:
    path = keys(tmp_path, "keys", f"you:{OTHER}\nme:{KEY}\n")
    assert read_key(str(path), "me") == bytes.fromhex(KEY)
    with pytest.raises(Failed, match="has no key of nobody"):
        read_key(str(path), "nobody")


@pytest.mark.parametrize(
    ("text", "why"), [("me:xyz\n", "hexadecimal"), ("me:abcd\n", "has 2 bytes"), ("", "has no key of me")]
)
def test_a_file_that_has_none_is_told(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(Failed, match=f"tls_refused.*{why}"):
        read_key(str(keys(tmp_path, "keys", text)), "me")


def test_keys_that_others_may_read_are_not_used(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="chmod 600"):
        read_key(str(keys(tmp_path, "keys", f"me:{KEY}\n", 0o640)), "me")
    with pytest.raises(Failed, match="cannot be read"):
        read_key(str(tmp_path / "none"), "me")


@pytest.mark.skipif(CAN, reason="this Python can")
def test_an_older_python_says_so(tmp_path: Path) -> None:
    uri = NbdUri("x", "h", tls=True, user="me", keys=str(keys(tmp_path, "keys", f"me:{KEY}\n")))
    with pytest.raises(Failed, match=r"tls_refused.*needs Python 3\.13"):
        psk_context(uri)


@needs_psk
@needs_program("nbdkit", "openssl")
def test_who_has_the_key_is_let_in_and_believed(tmp_path: Path) -> None:
    path = keys(tmp_path, "theirs", f"me:{KEY}\n")
    (tmp_path / "far").mkdir()
    disk(tmp_path / "far", 1 << 20)
    host = LinuxHost(tmp_path / "state")
    with serving(nbdkit_file(tmp_path / "far", 1 << 20, "--tls=require", f"--tls-psk={path}")) as server:
        uri = f"nbds+unix://me@/?socket={server.socket}&tls-psk-file={keys(tmp_path, 'mine', f'me:{KEY}')}"
        plex = host.open_plex(uri, 0)
        plex.pwrite(4096, b"by a key" * 100)
        plex.fdatasync()
        assert plex.pread(4096, 800) == b"by a key" * 100
        plex.close()
        wrong = uri.replace("/mine", "/wrong")
        keys(tmp_path, "wrong", f"me:{OTHER}\n")
        with pytest.raises(Failed, match=r"tls_refused|plex_missing"):
            host.open_plex(wrong, 0)


@needs_psk
@needs_program("nbdkit", "openssl")
def test_a_server_that_shows_a_certificate_instead_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    authority(tmp_path / "pki", "server.test", "client.test")
    (tmp_path / "far").mkdir()
    disk(tmp_path / "far", 1 << 20)
    words = ("--tls=require", f"--tls-certificates={tmp_path / 'pki'}")
    with serving(nbdkit_file(tmp_path / "far", 1 << 20, *words)) as server:
        uri = f"nbds+unix://me@/?socket={server.socket}&tls-psk-file={keys(tmp_path, 'mine', f'me:{KEY}')}"
        with pytest.raises(Failed, match=r"tls_refused|plex_missing"):
            LinuxHost(tmp_path / "state").open_plex(uri, 0)
