"""How the listening sockets reach the next process (R6): over a Unix socket, or from whoever starts it. Serves nothing.

The next process connects to ``--takeover PATH``, is given copies of all listening sockets (``SCM_RIGHTS``), that of
PATH among them, and says when it takes connections. Only then the former one stops to, so at every moment somebody
does; and since the sockets stay the same, whoever waits in their queues is answered by one of the two. If the next one
ends before it says so, the former one goes on as if nothing had been.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from pathlib import Path

from batchproxy.core.errors import ConfigError

logger = logging.getLogger("batchproxy.handover")

FORMAT = 1
"""Of what is said over the Unix socket."""

SELF = "takeover"
"""The name of the Unix socket's own listening socket, among those that are handed over."""

ANSWER_S = 10.0
"""How long the former process may take to hand its sockets over: it writes its state file first."""

NAMES = frozenset({"REST", "gRPC", "both", "admin", SELF})
"""Doors, as `app` calls them. systemd's ``FileDescriptorName=`` may say one of them; where it does not, a socket
belongs to the door of its address."""

MOST = 64
"""Sockets that are handed over at most; a host name may stand for several addresses. Linux allows 253."""

FIRST_FD = 3
"""The first descriptor that systemd passes (sd_listen_fds(3))."""

_READY = b"serving"

Sockets = Mapping[str, Sequence[socket.socket]]
"""Door to the sockets that it listens on."""

Fits = Callable[[socket.socket, bool], bool]


class Inheritance:
    """What a process begins with.

    Args:
        sockets: door to sockets that listen already.
        former: the connection to the process that served until now; None: there is none.
    """

    def __init__(self, sockets: Sockets | None = None, former: socket.socket | None = None) -> None:
        self._sockets = {name: list(several) for name, several in (sockets or {}).items()}
        self._former = former

    def __bool__(self) -> bool:
        return bool(self._sockets)

    def pop(self, name: str, fits: Fits = lambda one, named: True) -> Sequence[socket.socket]:
        """The sockets of a door, whose owner the caller is from now on.

        Args:
            name: of the door; sockets of its name that do not fit are closed, they belong to a former configuration.
            fits: told a socket, and whether it has this name; those without the name of a door go to whom they fit.
        """
        found = []
        for one in self._sockets.pop(name, []):
            if fits(one, True):
                found.append(one)
            else:
                one.close()
        for key, several in self._sockets.items():
            if key not in NAMES:
                found += [one for one in several if fits(one, False)]
                several[:] = [one for one in several if one not in found]
        return found

    def taken(self) -> None:
        """All doors are open: the former process can stop. Sockets that nobody wanted are closed."""
        if self._former is not None:
            try:
                self._former.sendall(_READY)
            except OSError as error:
                logger.warning("the former process ended by itself before it was relieved: %s", error.strerror)
        self.close()

    def close(self) -> None:
        """Let go of what is left; the former process goes on, unless `taken` was called."""
        for several in self._sockets.values():
            for one in several:
                one.close()
        self._sockets.clear()
        if self._former is not None:
            self._former.close()
            self._former = None


def inherit(path: str | None, environ: MutableMapping[str, str]) -> Inheritance:
    """Take over from the process that listens at ``path``, or else from whoever started this one (``LISTEN_FDS``).

    Args:
        path: of the Unix socket; None: nobody is asked.
        environ: the environment; what is for this process is taken out of it.

    Raises:
        ConfigError: who listens there does not hand anything over.
    """
    started_with = _from_starter(environ)
    former = None if path is None else _connect(path)
    if former is None:
        return Inheritance(started_with)
    for several in started_with.values():
        for one in several:
            one.close()
    try:
        return Inheritance(_receive(former), former)
    except (OSError, ValueError, KeyError) as error:
        former.close()
        raise ConfigError(
            f"--takeover {path}: who listens there does not hand its sockets over ({error}); is it batchproxy?"
        ) from error


def _from_starter(environ: MutableMapping[str, str]) -> Sockets:
    """Sockets by the names that systemd gives them."""
    mine = environ.get("LISTEN_PID") == str(os.getpid())
    count, names = environ.pop("LISTEN_FDS", "0"), environ.pop("LISTEN_FDNAMES", "").split(":")
    environ.pop("LISTEN_PID", None)
    if not (mine and count.isdigit()):
        return {}
    found: dict[str, list[socket.socket]] = {}
    for number in range(int(count)):
        one = socket.socket(fileno=FIRST_FD + number)
        os.set_inheritable(one.fileno(), False)
        found.setdefault(names[number] if number < len(names) else "", []).append(one)
    return found


def _connect(path: str) -> socket.socket | None:
    """A connection to the process that serves; None where none does."""
    former = socket.socket(socket.AF_UNIX)
    former.settimeout(ANSWER_S)
    try:
        former.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        former.close()
        return None
    except OSError as error:
        former.close()
        raise ConfigError(f"--takeover {path}: {error.strerror or error}; choose another path") from error
    return former


def _receive(former: socket.socket) -> Sockets:
    message, descriptors, _, _ = socket.recv_fds(former, 1 << 16, MOST)
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    try:
        document = json.loads(message)
        if document["format"] != FORMAT or len(document["sockets"]) != len(sockets):
            raise ValueError(f"its format is {document['format']!r}, and this version reads {FORMAT}")
    except (ValueError, KeyError, TypeError) as error:
        for one in sockets:
            one.close()
        raise ValueError(str(error)) from error
    found: dict[str, list[socket.socket]] = {}
    for name, one in zip(document["sockets"], sockets, strict=True):
        found.setdefault(name, []).append(one)
    return found


class Heir:
    """Waits for the next process, and hands over to it.

    Args:
        path: of the Unix socket, which only its owner may use.
        inherited: the socket that listens there already, if there is one.
        prepare: is awaited before anything is handed over.
        sockets: what is handed over; copies, which are closed here.
        relieved: called once the next process takes connections.
    """

    def __init__(
        self,
        path: str,
        inherited: Sequence[socket.socket],
        *,
        prepare: Callable[[], Awaitable[None]],
        sockets: Callable[[], Sockets],
        relieved: Callable[[], None],
    ) -> None:
        self._path = path
        self._prepare, self._sockets, self._relieved = prepare, sockets, relieved
        self.relieved = False
        self._listening = inherited[0] if inherited else _listen(path)
        self._listening.setblocking(False)

    async def wait(self) -> None:
        """Hand over to whoever asks, until one of them has relieved this process."""
        loop = asyncio.get_running_loop()
        while not self.relieved:
            try:
                connection, _ = await loop.sock_accept(self._listening)
            except OSError as error:  # it was gone again, or there are no descriptors left
                logger.warning("--takeover %s: could not take a connection: %s", self._path, error.strerror)
                await asyncio.sleep(1.0)
                continue
            with connection:
                connection.setblocking(False)
                self.relieved = await self._hand_over(connection)
        self._listening.close()
        self._relieved()

    async def _hand_over(self, connection: socket.socket) -> bool:
        """Whether the process at the other end serves now."""
        await self._prepare()
        with self._listening.dup() as own:
            sockets = {**self._sockets(), SELF: [own]}
            pairs = [(name, one) for name, several in sockets.items() for one in several]
            message = json.dumps({"format": FORMAT, "sockets": [name for name, _ in pairs]}).encode()
            try:
                socket.send_fds(connection, [message], [one.fileno() for _, one in pairs])
                said = await asyncio.get_running_loop().sock_recv(connection, len(_READY))
            except OSError as error:
                said = str(error).encode()
            finally:
                for _, one in pairs:
                    one.close()
        if said == _READY:
            return True
        logger.warning("a process asked to take over and ended before it served: this one goes on; see what it said")
        return False

    def aclose(self) -> None:
        """Nobody is waited for any more; the path goes, unless another process listens there now."""
        if not self.relieved:
            self._listening.close()
            Path(self._path).unlink(missing_ok=True)


def _listen(path: str) -> socket.socket:
    """A socket of the owner's alone; one that a process left behind when it was killed is replaced."""
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        if Path(path).is_socket():
            Path(path).unlink()
        listening.bind(path)
        listening.listen()
    except OSError as error:
        listening.close()
        why = error.strerror or os.strerror(error.errno or errno.EINVAL)
        raise ConfigError(f"cannot listen on --takeover {path}: {why}; choose another path") from error
    finally:
        os.umask(before)
    return listening
