"""The exports that this process uses: one session each, which a plex shares with the copy of the DCO at its tail, so
that a server which takes one client at a time has one.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial

import trio

from fmrd.backing.nbd import dcofile
from fmrd.backing.nbd.dcofile import NbdDco
from fmrd.backing.nbd.line import Line
from fmrd.backing.nbd.looking import look
from fmrd.backing.nbd.plex import NbdPlex
from fmrd.backing.nbd.session import PATIENCE_SECONDS, Session
from fmrd.backing.nbd.speaking import opening
from fmrd.backing.protocol import DCO_BLOCK_BYTES, Probe, Seen
from fmrd.backing.rbd import image
from fmrd.backing.rbd.owning import Owners
from fmrd.backing.rbd.session import RbdSession
from fmrd.core.far.images import ImageUri
from fmrd.core.far.uris import Uri, read_uri
from fmrd.errors import Failed, Refused


class Exports:
    """As much of protocol.Host as concerns URIs. All methods block, and are for worker threads."""

    def __init__(self, patience_seconds: float = PATIENCE_SECONDS, me: Callable[[], str] = str) -> None:
        """``me``: which fmrd this is (rbd.owning.who); "": none that was here before."""
        self.patience_seconds = patience_seconds
        self._sessions: dict[str, Line] = {}
        self._gates: dict[str, threading.Lock] = {}
        """One for each export that anybody asked for: they are opened one by one."""
        self._lock = threading.Lock()
        self._token = token_here()
        self._owners = Owners(me)

    def probe(self, path: str) -> Probe:
        with self._lent(path) as session:
            return Probe(True, True, session.export.size)

    def look(self, path: str, *, least: int) -> Seen:
        """As Host.look; what could not be a plex there is Refused or Failed. ``least``: bytes of its shortest write."""
        with self._lent(path) as session:
            opening.must_serve(session.uri, session.export, least=least)
            return look(path, session)

    def try_out(self, path: str, length: int) -> None:
        """Of a copy of the DCO."""
        with self._lent(path) as session:
            dcofile.must_have(path, session, length)

    def open_plex(self, path: str, tail_bytes: int) -> NbdPlex:
        session = self._session(read_uri(path))
        try:
            opening.must_serve(session.uri, session.export, least=1)
            if not session.users.become_plex():
                raise Failed("plex_busy", f"{path} is a plex already, and one export cannot be two")
        except BaseException:
            session.let_go()
            raise
        try:
            if (twin := self._twin(session)) is not None:
                raise Failed("plex_busy", f"{path} and {twin} are one export, which cannot be two plexes")
            session.own()
            return NbdPlex(path, session, tail_bytes)
        except BaseException:
            session.let_go(plex=True)
            raise

    def take_plex(self, path: str, tail_bytes: int, seen: Seen) -> NbdPlex:
        plex = self.open_plex(path, tail_bytes)
        if plex.session.export.size != seen.size:
            plex.close()
            raise Refused("refused_in_use", f"{path} was replaced by something else while fmrd looked at it")
        return plex

    def tail_bytes(self, path: str, known: int | None = None) -> int | None:
        with self._lent(path) as session:
            found = dcofile.find_tail(session, known)
            return None if found is None else session.export.size - found[0]

    def create_dco(self, path: str, length: int, *, whole: bool, replace: bool) -> NbdDco:
        """``whole``: all of the export is the copy, and not its tail."""
        session = self._session(read_uri(path))
        try:
            opening.must_serve(session.uri, session.export, least=DCO_BLOCK_BYTES)
            session.own()
            if whole:
                return dcofile.create_whole(path, session, length, replace=replace)
            return dcofile.create_tail(path, session, length)
        except BaseException:
            session.let_go()
            raise

    def open_dco(self, path: str, known: int | None, *, whole: bool) -> NbdDco | None:
        session = self._session(read_uri(path))
        try:
            opening.must_serve(session.uri, session.export, least=DCO_BLOCK_BYTES)
            session.own()
            if whole:
                return NbdDco(path, session, 0, session.export.size // DCO_BLOCK_BYTES * DCO_BLOCK_BYTES)
            if (found := dcofile.find_tail(session, known)) is not None:
                return NbdDco(path, session, *found)
        except BaseException:
            session.let_go()
            raise
        session.let_go(parks=True)
        return None

    def find_dco(self, path: str) -> NbdDco:
        """Return the copy at the tail of an export, or that it may be: for who only reads."""
        session = self._session(read_uri(path))
        try:
            found = dcofile.find_tail(session)
            size = session.export.size // DCO_BLOCK_BYTES * DCO_BLOCK_BYTES
            return NbdDco(path, session, *(found if found is not None else (0, size)))
        except BaseException:
            session.let_go()
            raise

    def remove_dco(self, path: str, *, whole: bool) -> None:
        with self._lent(path) as session:
            session.own()
            dcofile.wipe(session, whole=whole)

    def _twin(self, session: Line) -> Uri | None:
        """Another name of the same export, by which it is a plex. That a server has two addresses nobody can tell."""
        for each in list(self._sessions.values()):
            same = each.peer == session.peer and each.uri.export == session.uri.export
            if session.peer and same and each is not session and each.lost is None and each.users.has_plex:
                return each.uri
        return None

    @contextlib.contextmanager
    def _lent(self, path: str) -> Iterator[Line]:
        session = self._session(read_uri(path))
        try:
            yield session
        finally:
            session.let_go(parks=True)

    def _session(self, uri: Uri) -> Line:
        """One that there is, or a new one; who else asks for it meanwhile waits."""
        with self._lock:
            gate = self._gates.setdefault(uri.identity, threading.Lock())
        with gate:
            there = self._sessions.get(uri.identity)
            if there is not None and there.lost is None and there.users.take():
                if there.uri == uri:
                    return there  # where it is lost in this very moment, whoever asks it is told
                there.let_go()
                raise Failed("plex_busy", f"{uri} is in use here as {there.uri}")
            session = self._opened(uri)
            self._sessions[uri.identity] = session
            return session

    def _opened(self, uri: Uri) -> Line:
        if isinstance(uri, ImageUri):
            self._owners.must_be_few(uri)
            found = image.connect(uri)
            try:
                return RbdSession(uri, found, self._owners, self._token, self.patience_seconds)
            except BaseException:
                found.close()
                raise
        opened = opening.connect(uri, self.patience_seconds)
        return Session(uri, opened, self._token, self.patience_seconds)


def token_here() -> trio.lowlevel.TrioToken | None:
    """Return that of the trio which runs in this thread, or has this thread work for it; None where there is none, as
    in fmrctl dump.
    """
    for ask in (trio.lowlevel.current_trio_token, partial(trio.from_thread.run_sync, trio.lowlevel.current_trio_token)):
        with contextlib.suppress(RuntimeError):
            return ask()
    return None
