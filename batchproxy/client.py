"""The library's front to model servers: calls of one process, merged before they leave it. No bytes are made here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from batchproxy.backends.grpc_terms import metadata_of
from batchproxy.backends.tfserving import TfServingBackend
from batchproxy.backends.tls import ClientTls
from batchproxy.backends.v2_server import V2Backend
from batchproxy.catalogue import Catalogue
from batchproxy.codecs import arrays, tfs_columns
from batchproxy.codecs.tfs_grpc import VersionStatus
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.ends import MAX_ATTEMPTS
from batchproxy.core.errors import (
    BackendLost,
    BackendRejected,
    BackendUnavailable,
    BatchProxyError,
    Code,
    ConfigError,
    DeadlineExceeded,
    Draining,
    RequestError,
)
from batchproxy.core.policy import Policies, Policy
from batchproxy.core.raw import GRPC
from batchproxy.core.request import BatchKey, Reply, Request, Version, build_request
from batchproxy.core.shapes import DEFAULT_SIGNATURE, ModelInfo, Signature
from batchproxy.endpoints import ServerAddress, parse
from batchproxy.engine import Engine, build_engine
from batchproxy.tasks import Tasks

PROBE_INTERVAL_S = 1.0
"""How often a server that was left out is asked whether it is back; the default of the configuration, too."""

T = TypeVar("T")
Server = TfServingBackend | V2Backend
Given = dict[str, tuple[Array, bool]]
"""Input alias to array, and whether its dtype is numpy's guess."""


class Prediction(Mapping[str, Array]):
    """A model's answer: output name to array. Strings are object arrays of ``bytes``.

    Attributes:
        version: the version of the model that answered; 0 where the server did not say.
    """

    __slots__ = ("_arrays", "version")

    def __init__(self, outputs: Mapping[str, Array], version: int) -> None:
        self._arrays = dict(outputs)
        self.version = version

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Prediction({self._arrays}, version={self.version})"


class Client:
    """Calls models on TF Serving or on servers of the Open Inference Protocol; calls that fit together travel as one.

    While a server is busy, the calls that come meanwhile gather for the next one; a call that finds it idle leaves at
    once. Each caller gets its own rows, or its own error. Use it from any number of tasks of one event loop. It opens
    at the first call; leave its context, or call ``aclose``, when done.

    Args:
        endpoints: servers of the same models: ``grpc://HOST:PORT``, ``grpc://unix:/PATH`` or ``http://HOST:PORT``;
            ``v2+grpc://...`` or ``v2+http://...`` for Triton and others; ``grpcs`` and ``https`` within TLS. Where a
            server has both doors, gRPC is taken. Calls go to the least loaded one; one that cannot be reached is left
            out until it answers again.
        max_batch_rows: rows of a merged call at most.
        max_delay_ms: how long a call may wait for company while a server is idle.
        max_queued_rows: rows of one model that may wait; beyond it callers get ``QueueFull``.
        max_inflight: merged calls that a server may have at once; None: learned.
        idempotent: False: never run anything twice, so a failing call fails everyone who shared it.
        canary_every: of so many batches one is checked for rows that influence each other, by running one of its
            members again alone; the 1st, 10th and 100th, too. 0: none.
        static_headers: gRPC metadata, or headers, that are sent with each call.

    Raises:
        ConfigError: an argument is wrong.

    Example:
        >>> client = Client("grpc://tf-0:8500", "grpc://tf-1:8500", max_batch_rows=32)
        >>> client
        Client('grpc://tf-0:8500', 'grpc://tf-1:8500')
    """

    def __init__(
        self,
        *endpoints: str,
        max_batch_rows: int = 64,
        max_delay_ms: float = 0.0,
        max_queued_rows: int = 8192,
        max_inflight: int | None = None,
        idempotent: bool = True,
        canary_every: int = 1000,
        static_headers: Mapping[str, str] | None = None,
    ) -> None:
        if (
            min(max_batch_rows, max_queued_rows, 1 if max_inflight is None else max_inflight) < 1
            or min(max_delay_ms, canary_every) < 0
        ):
            raise ConfigError(
                "max_batch_rows, max_queued_rows and max_inflight must be 1 or more, "
                "max_delay_ms and canary_every 0 or more"
            )
        policy = Policy(
            max_batch_rows=max_batch_rows,
            max_delay_s=max_delay_ms / 1000,
            max_queued_rows=max_queued_rows,
            idempotent=idempotent,
            canary_every=canary_every,
        )
        backends = _open(endpoints, static_headers or {})
        self._by_json = any(isinstance(one, TfServingBackend) and not one.has(GRPC) for one in backends.values())
        self._engine: Engine = build_engine("client", backends, Policies({}, policy), max_inflight=max_inflight)
        self._catalogue = Catalogue(self._fetch, self._engine.clock)
        self._tasks = Tasks()
        self._probed: asyncio.Task[None] | None = None
        self._closed = False

    # -- questions ---------------------------------------------------------------------------------

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: Version = None,
        signature: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> Prediction:
        """Run a model on some rows, which stay together.

        Args:
            model: its name.
            inputs: input name to an array, or to anything that ``numpy.asarray`` takes. Numbers are converted to
                the dtype of the signature where that changes no whole number and no kind: whole to fractional, float64
                to float32, but never back. Strings are ``bytes``, or ``str``, which is sent as UTF-8.
            version: its number, or a label; None: whatever the server deems the newest.
            signature: which of the model's signatures.
            outputs: names of those wanted; None: all.
            timeout_s: how long the caller will wait.

        Raises:
            RequestError: the inputs are no arrays, or of a dtype that the model does not take.
            BackendRejected: the server refused, with its code and text.
            Unavailable: no server can be used, too much waits already, or the client is closed.
            BackendUnavailable: no server could be reached, or that is what it said.
            BackendError: the connection broke again and again, or the answer is none.
            DeadlineExceeded: ``timeout_s`` is over.
        """
        deadline = None if timeout_s is None else self._engine.clock() + timeout_s
        target = (model, _checked(version), signature)
        given = {alias: arrays.read(alias, value) for alias, value in inputs.items()}
        wanted = (outputs,) if isinstance(outputs, str) else None if outputs is None else tuple(outputs)
        await self._opened(deadline)
        known = self._catalogue.look(model, version)
        if self._by_json and known is None:
            known = await self._needed(model, version, deadline)
        if known is None and any(guessed for _, guessed in given.values()):
            known = await self._find(model, version, deadline)  # what type Python's numbers are, the signature says
        if known is None:
            request = _alone(target, given, wanted, deadline)
            try:
                return self._read(target, await self._send(request))
            except BackendRejected as error:
                if error.code is not Code.INVALID_ARGUMENT:
                    raise
                known = await self._find(model, version, deadline)
                if known is None or not _fitted(given, known.signatures.get(signature)):
                    raise
        declared = known.signatures.get(signature)
        if self._by_json and declared is None:
            raise RequestError(f"model {model!r} has no signature {signature!r}")
        if declared is None:  # the server says so
            return self._read(target, await self._send(_alone(target, given, wanted, deadline)))
        columns = {alias: ArrayColumn(array) for alias, (array, _) in (given | _fitted(given, declared)).items()}
        request = build_request(target, declared, columns, wanted, deadline)
        if self._by_json:
            request.key = request.key._replace(extras=tfs_columns.expected(declared))
        if not declared.declared:  # what a model's rows are it has to say itself
            request.rows = None
        return self._read(target, await self._send(request))

    async def metadata(self, model: str, *, version: Version = None) -> ModelInfo:
        """The signatures of a model, and the version that answers.

        Raises:
            BatchProxyError: as ``predict``.
        """
        _checked(version)
        await self._opened(None)
        return await self._fetch(model, version)

    async def status(self, model: str, *, version: Version = None) -> tuple[VersionStatus, ...]:
        """The versions of a model that a server has or had, each with its state.

        Raises:
            BatchProxyError: as ``predict``.
        """
        _checked(version)
        await self._opened(None)
        return await self._ask(lambda server: server.status(model, version))

    # -- inside ------------------------------------------------------------------------------------

    async def _send(self, request: Request) -> Reply:
        if self._closed:
            raise _draining()
        answered: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        entry = self._engine.submit(request, answered)
        try:
            return await answered
        except asyncio.CancelledError:
            self._engine.discard(entry)
            raise
        except BackendRejected as error:
            if error.code is Code.DEADLINE_EXCEEDED and request.deadline is not None:
                raise DeadlineExceeded(error.message) from None  # the caller's own limit, which travels along
            raise

    def _read(self, target: tuple[str, Version, str], reply: Reply) -> Prediction:
        self._catalogue.answered(target[0], target[1], reply.version)
        columns = cast("Mapping[str, ArrayColumn]", reply.columns)
        return Prediction({name: arrays.own(column.array) for name, column in columns.items()}, reply.version)

    async def _fetch(self, model: str, version: Version) -> ModelInfo:
        info = await self._ask(lambda server: server.metadata(model, version))
        self._engine.scheduler.sizes.declare(model, info.max_rows)
        return info

    async def _ask(self, question: Callable[[Server], Awaitable[T]]) -> T:
        """Put a question to one server, or to the next one where it cannot be reached."""
        attempts = 0
        while True:
            if self._closed:
                raise _draining()
            try:
                with self._engine.borrow() as server:
                    return await question(cast("Server", server))
            except (BackendUnavailable, BackendLost):
                attempts += 1
                if attempts == MAX_ATTEMPTS:
                    raise

    async def _find(self, model: str, version: Version, deadline: float | None) -> ModelInfo | None:
        """What the servers say of a model; None where they cannot, or there is no time: predict asks them anyway."""
        try:
            return await self._needed(model, version, deadline)
        except BatchProxyError:
            return None

    async def _needed(self, model: str, version: Version, deadline: float | None) -> ModelInfo:
        """The same, for who cannot ask without: JSON does not tell the types of an answer."""

        async def found() -> ModelInfo | BatchProxyError:
            try:
                return await self._catalogue.find(model, version)
            except BatchProxyError as error:
                return error

        task = self._tasks.spawn(f"find-{model}", found())
        await self._wait(task, deadline)
        known = task.result() if task.done() and not task.cancelled() else DeadlineExceeded("Deadline Exceeded")
        if isinstance(known, BatchProxyError):
            raise known
        return known

    def _start(self) -> asyncio.Task[None]:
        if self._closed:
            raise _draining()
        if self._probed is None:
            self._probed = self._tasks.spawn("first-probe", self._engine.probe())
            _ = self._tasks.spawn("probe", self._engine.keep_probing(PROBE_INTERVAL_S))
        return self._probed

    async def _opened(self, deadline: float | None) -> None:
        """Return once every server has said whether it is there: at the first call only."""
        probed = self._start()
        if not probed.done():
            await self._wait(probed, deadline)
            if self._closed:
                raise _draining()

    async def _wait(self, task: asyncio.Task[Any], deadline: float | None) -> None:
        left = None if deadline is None else max(0.0, deadline - self._engine.clock())
        await asyncio.wait({task}, timeout=left)

    # -- life --------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Take nothing new, finish what was taken, and close the connections."""
        self._closed = True
        await self._engine.drain()
        await self._catalogue.aclose()
        await self._tasks.aclose()
        await self._engine.aclose()

    async def __aenter__(self) -> Self:
        _ = self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"Client({', '.join(map(repr, self._engine.backends))})"


def _open(endpoints: Sequence[str], headers: Mapping[str, str]) -> dict[str, Server]:
    if not endpoints:
        raise ConfigError("a client needs a server, as in Client('grpc://tf:8500')")
    static = tuple(headers.items())
    try:
        sent = {name for name, _ in metadata_of(static)}
    except BackendRejected as error:
        raise ConfigError(f"static_headers: {error.message}") from None
    if unsent := [name for name in headers if name not in sent]:
        raise ConfigError(f"static_headers: {unsent[0]!r} is written by gRPC itself")
    backends: dict[str, Server] = {}
    for text in endpoints:
        address = parse(text)
        if not isinstance(address, ServerAddress):
            raise ConfigError(
                f"endpoint {text!r} is no server; a client needs grpc://HOST:PORT, http://HOST:PORT, {_V2}"
            )
        backend = _server(address, static)
        if backend.name in backends:
            raise ConfigError(f"endpoint {text!r} is given twice; name each server once")
        if any(type(backend) is not type(other) for other in backends.values()):
            raise ConfigError(f"endpoint {text!r} speaks another protocol than those before it; make a client for each")
        backends[backend.name] = backend
    return backends


_V2 = "v2+grpc://HOST:PORT or v2+http://HOST:PORT"


def _server(address: ServerAddress, static: tuple[tuple[str, str], ...]) -> Server:
    """A server by one of its doors: gRPC where there is one, since arrays are what is sent."""
    kind = V2Backend if address.v2 else TfServingBackend
    if address.grpc is not None:
        return kind(grpc=address.grpc, static_headers=static, grpc_tls=ClientTls() if address.grpc_tls else None)
    return kind(rest=f"https://{address.rest}" if address.rest_tls else address.rest, static_headers=static)


def _checked(version: Version) -> Version:
    if isinstance(version, int) and not 0 <= version < 2**63:
        raise RequestError(f"version {version} is no version of a model; they are numbers from 0 on, below 2**63")
    return version


def _draining() -> Draining:
    return Draining("the client was closed; make a new one")


def _alone(
    target: tuple[str, Version, str], given: Given, outputs: tuple[str, ...] | None, deadline: float | None
) -> Request:
    """A request that shares its call with nobody: nothing is known of the signature, so the server has the word."""
    columns = {alias: ArrayColumn(array) for alias, (array, _) in given.items()}
    nbytes = sum(column.nbytes for column in columns.values())
    return Request(BatchKey(*target, outputs=outputs or None), columns, None, nbytes, deadline)


def _fitted(given: Given, signature: Signature | None) -> Given:
    """Those inputs that take another dtype in this signature; names that it does not have are left to the server.

    Raises:
        ShapeMismatch: one that does not fit.
    """
    fitted: Given = {}
    for alias, (array, guessed) in given.items():
        spec = None if signature is None else signature.inputs.get(alias)
        if spec is not None and (cast_to := arrays.fit(alias, array, spec, guessed=guessed)) is not array:
            fitted[alias] = (cast_to, False)
    return fitted
