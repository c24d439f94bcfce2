"""Certificates for TLS, by openssl: an authority, and what it signed for both sides."""

import subprocess
from pathlib import Path


def authority(where: Path, server: str, client: str) -> None:
    """The files of tls-certificates= in that directory, for these names."""
    _openssl(where, "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", "-subj", f"/CN={where.name}",
             "-keyout", "ca-key.pem", "-out", "ca-cert.pem")  # fmt: skip
    for role, name in (("server", server), ("client", client)):
        (where / "names").write_text(f"subjectAltName=DNS:{name}\n")
        _openssl(where, "req", "-nodes", "-newkey", "rsa:2048", "-subj", f"/CN={name}",
                 "-keyout", f"{role}-key.pem", "-out", f"{role}.csr")  # fmt: skip
        _openssl(where, "x509", "-req", "-in", f"{role}.csr", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem",
                 "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{role}-cert.pem")  # fmt: skip


def _openssl(where: Path, *words: str) -> None:
    done = subprocess.run(["openssl", *words], cwd=where, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
