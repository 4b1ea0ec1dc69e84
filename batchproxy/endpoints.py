"""Endpoints and addresses of the configuration: what they may say. Opening them is `batchproxy.backends`' business.

``onnx:PATH`` is a model run by onnxruntime in this process; ``python:MODULE:FUNCTION`` a function of an
importable module. A path or a module is looked for from the current directory. ``grpc://HOST:PORT`` and
``http://HOST:PORT`` are the doors of a TF Serving process, ``grpcs://`` and ``https://`` within TLS; with ``v2+``
before them, those of a server that speaks the Open Inference Protocol (Triton, MLServer, KServe, OpenVINO Model
Server). A comma joins the two doors of one server.

Where servers come and go, their addresses are found: ``dns+`` before those of a name that stands for all of them,
``srv+grpc://RECORD`` for an SRV record, ``file:PATH`` for a file with a server a line.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from enum import Enum

from batchproxy.core.errors import ConfigError
from batchproxy.documents import nearest

KNOWN = (
    "onnx:PATH, python:MODULE:FUNCTION, grpc://HOST:PORT, http://HOST:PORT, v2+grpc://..., v2+http://..., "
    "dns+grpc://..., srv+grpc://RECORD, file:PATH"
)
SCHEMES = ("onnx", "python", "grpc", "http", "grpcs", "https", "v2+grpc", "v2+http", "v2+grpcs", "v2+https", "file")
_V2 = "v2+"
"""What the schemes of the Open Inference Protocol begin with."""

_DNS, _SRV = "dns+", "srv+"
"""What is before an endpoint whose addresses are found by name."""

_RECORD = re.compile(r"[\w-]+(\.[\w-]+)+\.?", re.ASCII)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_HOST_PORT = re.compile(r"(?:\[([\dA-Fa-f:.]+(?:%[\w.-]+)?)\]|([\w.-]+)):(\d{1,5})", re.ASCII)
_UNIX = re.compile(r"unix:/[^\s,]+")
_DOORS = {"grpc": "grpc", "http": "rest", "grpcs": "grpc", "https": "rest"}
"""A scheme, and the door that it leads to."""

_SECURE = {"grpc": "grpcs://", "rest": "https://"}
"""A door, and what its address begins with where it is within TLS."""


@dataclass(frozen=True, slots=True)
class OnnxAddress:
    """``onnx:PATH``: a file, or a folder that holds ``model.onnx`` or version folders with one."""

    path: str

    @property
    def name(self) -> str:
        """As logs and metrics call it, and as `parse` reads it."""
        return f"onnx:{self.path}"


@dataclass(frozen=True, slots=True)
class PythonAddress:
    """``python:MODULE:FUNCTION``: a function, or a mapping of signature name to function; MODULE may be dotted."""

    module: str
    function: str

    @property
    def name(self) -> str:
        """As logs and metrics call it, and as `parse` reads it."""
        return f"python:{self.module}:{self.function}"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """One model server, by one or both of its doors.

    Args:
        grpc: ``host:port`` or ``unix:/path``; ``None``: it has no such door, or we may not use it.
        rest: ``host:port``, or ``None``.
        grpc_tls: whether the gRPC door is within TLS.
        rest_tls: whether the REST door is.
        v2: whether it speaks the Open Inference Protocol; False: TF Serving's.
    """

    grpc: str | None = None
    rest: str | None = None
    grpc_tls: bool = False
    rest_tls: bool = False
    v2: bool = False

    @property
    def name(self) -> str:
        """As logs and metrics call it, and as `parse` reads it.

        >>> ServerAddress("tf:8500", "tf:8501").name
        'grpc://tf:8500,http://tf:8501'
        >>> ServerAddress("triton:8001", v2=True).name
        'v2+grpc://triton:8001'
        """
        doors = (("grpcs" if self.grpc_tls else "grpc", self.grpc), ("https" if self.rest_tls else "http", self.rest))
        api = _V2 if self.v2 else ""
        return ",".join(f"{api}{scheme}://{place}" for scheme, place in doors if place is not None)

    def hosts(self) -> frozenset[str]:
        """The hosts of its doors; those of Unix sockets have none."""
        return frozenset(parse_address(place)[0] for place in self._doors() if not place.startswith("unix:"))

    def at(self, host: str) -> ServerAddress:
        """The same server on another host: the ports stay.

        >>> ServerAddress("tf:8500", "tf:8501").at("::1").name
        'grpc://[::1]:8500,http://[::1]:8501'
        """
        host = f"[{host}]" if ":" in host else host
        grpc, rest = (
            None if place is None else f"{host}:{parse_address(place)[1]}" for place in (self.grpc, self.rest)
        )
        return replace(self, grpc=grpc, rest=rest)

    def _doors(self) -> list[str]:
        return [place for place in (self.grpc, self.rest) if place is not None]


class Kind(Enum):
    """Where the addresses of servers are found."""

    DNS = "dns"
    SRV = "srv"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class SourceAddress:
    """Servers that come and go.

    Args:
        kind: who knows them.
        place: the host that stands for all of them (DNS), the name of the record (SRV), or the path.
        server: what each of them is, but for its host (DNS), or its host and port (SRV); None: the file says it.
    """

    kind: Kind
    place: str
    server: ServerAddress | None = None

    @property
    def name(self) -> str:
        """As logs and metrics call it, and as `parse` reads it."""
        if self.server is None:
            return f"file:{self.place}"
        name = f"{self.kind.value}+{self.server.name}"
        return name.removesuffix(_ANY_PORT) if self.kind is Kind.SRV else name


_ANY_PORT = ":1"
"""Of the server of an SRV record, which says the port."""

Address = OnnxAddress | PythonAddress | ServerAddress | SourceAddress


def parse(text: str) -> Address:
    """Read one endpoint string; the thing it names need not exist.

    Raises:
        ConfigError: the scheme is unknown or what follows it has the wrong form.

    Example:
        >>> parse("python:package.module:predict")
        PythonAddress(module='package.module', function='predict')
        >>> parse("grpc://tf:8500,https://tf:8501")
        ServerAddress(grpc='tf:8500', rest='tf:8501', grpc_tls=False, rest_tls=True, v2=False)
    """
    match = _SCHEME.fullmatch(text)
    if match is None:
        raise ConfigError(f"endpoint {text!r} has no scheme; known: {KNOWN}. For a file or folder: 'onnx:{text}'")
    scheme, rest = match[1], match[2]
    if scheme == "onnx":
        if not rest or rest.startswith("//"):
            raise ConfigError(
                f"endpoint {text!r}: write onnx:PATH, such as 'onnx:models/digits' or 'onnx:/models/digits'"
            )
        return OnnxAddress(rest)
    if scheme == "python":
        module, _, function = rest.partition(":")
        if not (_DOTTED.fullmatch(module) and function.isidentifier()):
            raise ConfigError(f"endpoint {text!r}: write python:MODULE:FUNCTION, such as 'python:my_models:predict'")
        return PythonAddress(module, function)
    if scheme == "file":
        if not rest or rest.startswith("//"):
            raise ConfigError(f"endpoint {text!r}: write file:PATH, such as 'file:servers.txt'")
        return SourceAddress(Kind.FILE, rest)
    if scheme.removeprefix(_DNS).removeprefix(_SRV).removeprefix(_V2) in _DOORS:
        try:
            return _parse_source(text) if scheme.startswith((_DNS, _SRV)) else _parse_server(text)
        except ConfigError as error:
            raise ConfigError(f"endpoint {text!r}: {error.message}") from None
    if scheme == "unix":
        raise ConfigError(f"endpoint {text!r}: write grpc://unix:/PATH")
    if _HOST_PORT.fullmatch(text):
        raise ConfigError(f"endpoint {text!r} has no scheme; write 'grpc://{text}' or 'http://{text}'")
    raise ConfigError(f"endpoint {text!r}: unknown scheme {scheme!r}; {nearest(scheme, SCHEMES, f'known: {KNOWN}')}")


def _parse_source(text: str) -> SourceAddress:
    if text.startswith(_DNS):
        one = _parse_server(text.removeprefix(_DNS))
        hosts = sorted(one.hosts())
        if len(hosts) != 1:
            raise ConfigError(f"{_DNS} looks one name up; its doors have {' and '.join(hosts) or 'none'}")
        [host] = hosts
        if _is_ip(host):
            raise ConfigError(f"{host} is an address already; leave {_DNS} away")
        return SourceAddress(Kind.DNS, host, one)
    scheme, _, record = text.removeprefix(_SRV).partition("://")
    if not _RECORD.fullmatch(record):
        raise ConfigError(f"write {_SRV}{scheme}://RECORD without a port, such as {_SRV}grpc://_grpc._tcp.tf.local")
    return SourceAddress(Kind.SRV, record, _parse_server(f"{scheme}://{record}{_ANY_PORT}"))


def _parse_server(text: str) -> ServerAddress:
    doors: dict[str, str] = {}
    for part in text.split(","):
        scheme, separator, place = part.removeprefix(_V2).partition("://")
        if not separator or scheme not in _DOORS:
            raise ConfigError(f"{part!r} is not grpc://HOST:PORT or http://HOST:PORT")
        if part.startswith(_V2) is not text.startswith(_V2):
            raise ConfigError(f"one door with {_V2} and one without; the doors of one server speak the same protocol")
        if _DOORS[scheme] in doors:
            raise ConfigError(
                f"two {scheme.removesuffix('s')} doors; a comma joins the grpc and the http door of one server, "
                "another server is another endpoint"
            )
        doors[_DOORS[scheme]] = part.removeprefix(_V2) if scheme.endswith("s") else place
    return server(doors.get("grpc"), doors.get("rest"), v2=text.startswith(_V2))


def server(grpc: str | None, rest: str | None, *, v2: bool = False) -> ServerAddress:
    """The server with these doors, as in a mapping of the configuration.

    Args:
        grpc: without its scheme, or ``grpcs://host:port``.
        rest: without its scheme, or ``https://host:port``.
        v2: whether it speaks the Open Inference Protocol.

    Raises:
        ConfigError: there is no door, or one is not ``host:port`` (gRPC: or ``unix:/path``).

    Example:
        >>> server("unix:/run/tf.sock", None).name
        'grpc://unix:/run/tf.sock'
    """
    if grpc is None and rest is None:
        raise ConfigError("a server needs a door, as in {grpc: 'tf-0:8500', rest: 'tf-0:8501'}")
    return ServerAddress(
        None if grpc is None else grpc if _UNIX.fullmatch(grpc) else _checked_door("grpc", grpc, "tf-0:8500"),
        None if rest is None else _checked_door("rest", rest, "tf-0:8501"),
        grpc is not None and grpc.startswith(_SECURE["grpc"]),
        rest is not None and rest.startswith(_SECURE["rest"]),
        v2,
    )


def _checked_door(door: str, text: str, example: str) -> str:
    text = text.removeprefix(_SECURE[door])
    if text.startswith("unix:"):
        fix = "write unix:/PATH, from the root" if door == "grpc" else "TF Serving has no Unix socket for REST"
        raise ConfigError(f"the {door} door {text!r} is not supported; {fix}")
    try:
        _, port = parse_address(text)
    except ConfigError:
        hint = "; leave the scheme away" if "://" in text else "; leave the path away" if "/" in text else ""
        raise ConfigError(f"the {door} door: expected host:port such as {example!r}, got {text!r}{hint}") from None
    if port == 0:
        raise ConfigError(f"the {door} door: {text!r} has port 0; name the port that the server listens on")
    return text


def parse_address(text: str) -> tuple[str, int]:
    """Split ``host:port``; an IPv6 host is in brackets, which are taken off.

    Raises:
        ConfigError: it has another form.

    Example:
        >>> parse_address("[::1]:8501")
        ('::1', 8501)
    """
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match[3]) > 65535 or not _is_ipv6(match[1] or "::"):
        raise ConfigError(f"expected host:port such as '0.0.0.0:8501' or '[::1]:8501', got {text!r}")
    return match[1] or match[2], int(match[3])


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
