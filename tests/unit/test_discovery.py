"""Looking addresses up: a name server of our own answers dnspython, localhost the system's resolver."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Thread

import pytest

from batchproxy.core.errors import ConfigError
from batchproxy.discovery import MOST, DnsSource, FileSource, Source, Srv, SrvSource, Watch, hosts_of, source
from batchproxy.endpoints import ServerAddress, SourceAddress, parse


def an_address(text: str) -> SourceAddress:
    """An endpoint whose addresses are found."""
    address = parse(text)
    assert isinstance(address, SourceAddress)
    return address


def names(servers: Sequence[ServerAddress] | None) -> list[str]:
    """What was found, as it would be written."""
    assert servers is not None
    return [server.name for server in servers]


# ---------------------------------------------------------------- DNS


async def test_a_name_is_as_many_servers_as_it_has_addresses() -> None:
    """With both doors, on the ports that the endpoint says."""

    async def hosts(name: str) -> Sequence[str]:
        assert "tf.local" == name
        return ["10.0.0.2", "::1", "10.0.0.1"]

    found = await DnsSource(an_address("dns+grpcs://tf.local:8500,http://tf.local:8501"), hosts).look()

    assert [
        "grpcs://10.0.0.2:8500,http://10.0.0.2:8501",
        "grpcs://[::1]:8500,http://[::1]:8501",
        "grpcs://10.0.0.1:8500,http://10.0.0.1:8501",
    ] == names(found)


async def test_the_systems_resolver() -> None:
    """It knows this machine, and says what it does not know."""
    found = await hosts_of("localhost")

    assert {"127.0.0.1", "::1"} >= set(found) > set()
    with pytest.raises(OSError, match="."):
        await hosts_of("no-such-host.invalid")


def a_name(text: str) -> bytes:
    """As DNS writes it."""
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".") if label) + b"\0"


@contextlib.contextmanager
def name_server(records: Mapping[str, Sequence[tuple[int, int, int, str]]]) -> Iterator[int]:
    """Answers questions for SRV records over UDP, as RFC 1035 and 2782 say; its port.

    Args:
        records: name to (priority, weight, port, target) each; another name does not exist.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.bind(("127.0.0.1", 0))

        def answer() -> None:
            while True:
                question, sender = door.recvfrom(512)
                if question == b"end":
                    return
                end, labels = 12, []
                while question[end]:
                    labels.append(question[end + 1 : end + 1 + question[end]].decode())
                    end += 1 + question[end]
                end += 5
                found = records.get(".".join(labels))
                flags = 0x8180 if found is not None else 0x8183  # NXDOMAIN
                said = question[:2] + struct.pack(">HHHHH", flags, 1, len(found or ()), 0, 0) + question[12:end]
                for priority, weight, port, target in found or ():
                    data = struct.pack(">HHH", priority, weight, port) + a_name(target)
                    said += b"\xc0\x0c" + struct.pack(">HHIH", 33, 1, 5, len(data)) + data
                door.sendto(said, sender)

        thread = Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield door.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
                caller.sendto(b"end", door.getsockname())
            thread.join()


@pytest.mark.parametrize(("scheme", "expected"), [("v2+grpc", "v2+grpc"), ("https", "https")])
async def test_srv_records_say_host_and_port(scheme: str, expected: str) -> None:
    """Those of the best priority count."""
    records = {"_v2._tcp.triton.local": [(1, 0, 8001, "a.local"), (2, 0, 1, "b.local"), (1, 9, 8002, "c.local")]}
    with name_server(records) as port:
        address = an_address(f"srv+{scheme}://_v2._tcp.triton.local")
        found = await SrvSource(address, Srv(["127.0.0.1"], port).records_of).look()

    assert [f"{expected}://a.local:8001", f"{expected}://c.local:8002"] == sorted(names(found))


async def test_what_no_srv_record_says() -> None:
    """A name that is not there is an error; a target of '.' is a service that is not offered."""
    with name_server({"_x._tcp.local": [(0, 0, 0, "")]}) as port:
        records = Srv(["127.0.0.1"], port).records_of
        nothing = await records("_x._tcp.local")
        with pytest.raises(OSError, match="does not exist"):
            await records("_y._tcp.local")

    assert [] == list(nothing)


def test_srv_without_dnspython(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install."""
    monkeypatch.setitem(sys.modules, "dns", None)
    monkeypatch.setitem(sys.modules, "dns.resolver", None)
    with pytest.raises(ConfigError, match=r"pip install 'batchproxy\[srv\]'"):
        source(an_address("srv+grpc://_x._tcp.local"))


# ---------------------------------------------------------------- a file


async def test_a_file_is_read_when_it_is_another_one(tmp_path: Path) -> None:
    """In place, or replaced by a file of the same size and time."""
    path, other = tmp_path / "servers", tmp_path / "other"
    path.write_text("# both\ngrpc://a:1\n\n  v2+http://b:1 \n")
    file = FileSource(an_address(f"file:{path}"))
    first, again = names(await file.look()), await file.look()
    os.utime(path, ns=(1, 1))
    touched = names(await file.look())
    other.write_text("# both\ngrpc://c:1\n\n  v2+http://b:1 \n")
    os.utime(other, ns=(1, 1))
    other.rename(path)
    replaced = names(await file.look())

    assert ["grpc://a:1", "v2+http://b:1"] == first == touched == names(file.read())[:0] + first
    assert again is None
    assert ["grpc://c:1", "v2+http://b:1"] == replaced == names(file.read())


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"grpc://a:1\ngrpc://b", "line 2: endpoint 'grpc://b': the grpc door: expected host:port"),
        (b"onnx:x", "line 1: 'onnx:x' is not a server; write grpc://HOST:PORT or http://HOST:PORT"),
        (b"dns+grpc://a:1", "line 1: 'dns\\+grpc://a:1' is not a server"),
        (b"\xff", "it is not UTF-8"),
        (None, "No such file or directory"),
    ],
)
def test_files_that_name_no_servers(tmp_path: Path, content: bytes | None, fault: str) -> None:
    """The file is named, and the line."""
    path = tmp_path / "servers"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^file:{path}: {fault}"):
        FileSource(an_address(f"file:{path}")).read()


def test_each_kind_has_its_source() -> None:
    """Files are looked at more often: it costs next to nothing."""
    kinds = [type(source(an_address(text))) for text in ("dns+grpc://a:1", "srv+grpc://_a._tcp.b", "file:x")]

    assert [DnsSource, SrvSource, FileSource] == kinds
    assert DnsSource.period_s == SrvSource.period_s > FileSource.period_s


# ---------------------------------------------------------------- again and again


class Scripted:
    """A source that says one thing after the other."""

    period_s = 0.0

    def __init__(self, *says: Sequence[str] | Exception | None) -> None:
        self._says = iter(says)
        self.ended = asyncio.Event()

    async def look(self) -> Sequence[ServerAddress] | None:
        said = next(self._says, self)
        if said is self:
            self.ended.set()
            await asyncio.Event().wait()
        if isinstance(said, Exception):
            raise said
        assert said is None or isinstance(said, list)
        return None if said is None else [ServerAddress(name) for name in said]


class Told:
    """What a watch says of a source."""

    def __init__(self, source: Source) -> None:
        self.changes: list[list[str]] = []
        self.fault: ConfigError | None = None
        self.watch = Watch("p", "dns+grpc://x:1", source, self._changed)

    async def _changed(self, servers: Sequence[ServerAddress]) -> None:
        if self.fault is not None:
            raise self.fault
        self.changes.append([server.grpc or "" for server in servers])


async def test_failures_change_nothing_and_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A line when it fails, a line when it succeeds again, and a count."""
    gone = socket.gaierror(-2, "Name or service not known")
    told = Told(Scripted(["b:1", "a:1", "b:1"], gone, gone, None, ["a:1"], [], TimeoutError(), ["n:1"] * (MOST + 1)))
    faults = []
    with caplog.at_level(logging.INFO, "batchproxy"):
        for _ in range(8):
            await told.watch.look()
            faults.append(told.watch.fault)

    assert [["a:1", "b:1"], ["a:1"], ["n:1"]] == told.changes
    unknown = "Name or service not known"
    assert ["", unknown, unknown, "", "", "no server is named", "no answer within 10 s", ""] == faults
    assert 4 == told.watch.failures
    assert [
        "pool 'p': dns+grpc://x:1: Name or service not known; what was found before stays in use",
        "pool 'p': dns+grpc://x:1: can be looked up again",
        "pool 'p': dns+grpc://x:1: no server is named; what was found before stays in use",
        "pool 'p': dns+grpc://x:1: no answer within 10 s; what was found before stays in use",
        "pool 'p': dns+grpc://x:1: can be looked up again",
    ] == [record.getMessage() for record in caplog.records]


async def test_too_many_servers_and_servers_that_do_not_fit_are_faults() -> None:
    """As what cannot be looked up is."""
    told = Told(Scripted([f"n:{number}" for number in range(1, MOST + 2)], ["a:1"]))
    await told.watch.look()
    many = told.watch.fault
    told.fault = ConfigError("they have no REST door")
    await told.watch.look()

    assert "1001 servers are named, and 1000 is the most" == many
    assert "they have no REST door" == told.watch.fault
    assert [] == told.changes


async def test_it_looks_again_until_it_is_cancelled() -> None:
    """Each time after the source's period."""
    scripted = Scripted(["a:1"], ["b:1"])
    told = Told(scripted)
    looking = asyncio.ensure_future(told.watch.keep_looking())
    await scripted.ended.wait()
    looking.cancel()
    await asyncio.wait([looking])

    assert [["a:1"], ["b:1"]] == told.changes
