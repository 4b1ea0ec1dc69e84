"""A bad server's gRPC door: the library ``h2``, and bytes by hand. What strikes is not decided here."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable
from typing import cast

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import numpy as np
from google.protobuf.message import DecodeError

from batchproxy.codecs import tensor_proto, tfs_grpc, v2_grpc
from batchproxy.codecs.tfs_grpc import VersionStatus
from batchproxy.core.columns import Array, ArrayColumn
from batchproxy.core.errors import BackendProtocolError
from batchproxy.core.request import Reply
from batchproxy.protos import tfs_pb2 as pb
from tests.faults.rest_front import NOISE, PAGE
from tests.faults.script import POISON, ROWS, SIGNATURE, STATUSES, VERSION, Call, Fault, Outputs, info, outputs
from tests.faults.server import Site, reset

HEAD = ((":status", "200"), ("content-type", "application/grpc"))
UNIMPLEMENTED, INVALID_ARGUMENT, INTERNAL = 12, 3, 13
OTHER_PROTOCOL = b"HTTP/1.1 400 Bad Request\r\n\r\n"
WINDOW = 1 << 30
FRAME = 16_384
_TYPES = {"y": np.int64, "g": np.int64, "f": np.float32}


class GrpcFront(asyncio.Protocol):
    """One connection with as many calls as the client opens."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8", validate_outbound_headers=False)
        )
        self._calls: dict[int, tuple[str, list[bytes]]] = {}
        self._transport: asyncio.Transport | None = None
        self._half_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._site.transports.add(self._transport)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._site.transports.discard(self._transport)
        self._transport = None

    def _flush(self) -> None:
        if self._transport is not None and (data := self._h2.data_to_send()) and not self._half_closed:
            self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._flush()
            if self._transport is not None:
                self._transport.close()
            return
        for event in events:
            match event:
                case h2.events.RequestReceived():
                    path = next(str(value) for name, value in event.headers or () if str(name) == ":path")
                    self._calls[event.stream_id or 0] = (path, [])
                case h2.events.DataReceived():
                    if event.stream_id in self._calls:
                        self._calls[event.stream_id][1].append(event.data or b"")
                        self._h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
                case h2.events.StreamReset():
                    self._calls.pop(event.stream_id or 0, None)
                case h2.events.StreamEnded():
                    stream = event.stream_id or 0
                    if stream in self._calls:
                        path, parts = self._calls[stream]
                        self._site.spawn(self._answer(stream, path, b"".join(parts)[5:]))
                case _:
                    pass
        self._flush()

    async def _answer(self, stream: int, path: str, message: bytes) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):  # another call's fault has ended the connection
            if path == tfs_grpc.PREDICT:
                request = pb.PredictRequest.FromString(message)
                array, _ = tensor_proto.read(request.inputs["x"], "x", tensor_proto.MAX_ELEMENTS)
                await self._predict(stream, request.model_spec.name, array, _response)
            elif path == v2_grpc.MODEL_INFER:
                call = v2_grpc.parse_infer(message)
                await self._predict(stream, call.model, call.inputs["x"].array, _v2_response)
            elif path.startswith(v2_grpc.SERVICE):
                self._say(stream, *self._v2_document(path, message))
            else:
                self._say(stream, *self._document(path, message))
        self._calls.pop(stream, None)

    def _document(self, path: str, message: bytes) -> tuple[bytes | None, int, str]:
        if path == tfs_grpc.GET_MODEL_STATUS:
            model = tfs_grpc.parse_status(message).model
            if not model:
                return None, INVALID_ARGUMENT, "Missing ModelSpec"
            if model in self._site.script.deaf:
                return None, INTERNAL, "the server's status is out of order"
            return tfs_grpc.encode_status([VersionStatus(VERSION)]), 0, ""
        if path == tfs_grpc.GET_MODEL_METADATA:
            model = tfs_grpc.parse_metadata(message).model
            if model in self._site.script.deaf:
                return None, INTERNAL, "the server's metadata is out of order"
            return tfs_grpc.encode_metadata(info(model)), 0, ""
        return None, UNIMPLEMENTED, f"no {path} here"

    def _v2_document(self, path: str, message: bytes) -> tuple[bytes | None, int, str]:
        if path == v2_grpc.SERVER_READY:
            return v2_grpc.encode_flag(True), 0, ""
        model = v2_grpc.parse_model(message).model
        if model in self._site.script.deaf:
            return None, INTERNAL, "the server's metadata is out of order"
        if path == v2_grpc.MODEL_READY:
            return v2_grpc.encode_flag(True), 0, ""
        if path == v2_grpc.MODEL_METADATA:
            return v2_grpc.encode_metadata(info(model), SIGNATURE), 0, ""
        return None, UNIMPLEMENTED, f"no {path} here"

    async def _predict(self, stream: int, model: str, sent: Array, encode: Callable[[str, Outputs], bytes]) -> None:
        rows = tuple(int(row) for row in np.atleast_1d(sent))
        call = Call(model, rows)
        fault = self._site.script.take(call)
        await self._site.pause(call, fault)
        transport = self._transport
        if transport is None or stream not in self._calls:
            return
        if fault is Fault.POISON_ROW:
            self._say(stream, None, INVALID_ARGUMENT, f"row {POISON} is not among {rows}")
        elif fault in STATUSES:
            text = f"cannot run {rows}" if fault is Fault.INTERNAL else "not now"
            self._say(stream, None, STATUSES[fault][0], text)
        else:
            found = encode(model, outputs(rows, fault if fault in ROWS else None))
            self._write_wrongly(transport, stream, found, fault)

    def _write_wrongly(self, transport: asyncio.Transport, stream: int, message: bytes, fault: Fault | None) -> None:
        half = len(message) // 2
        match fault:
            case Fault.RESET_BEFORE | Fault.DIES:
                reset(transport)
            case Fault.HANG_UP:
                transport.close()
            case Fault.RESET_WITHIN:
                self._begin(stream, message, message[:half])
                reset(transport)
            case Fault.HALF_CLOSE:
                self._begin(stream, message, message[:half])
                self._half_closed = True
                transport.write_eof()
            case Fault.DRIBBLE:
                self._h2.send_headers(stream, HEAD)
                for byte in _framed(message):
                    self._h2.send_data(stream, bytes((byte,)))
                self._end(stream)
            case Fault.GARBAGE:
                self._say(stream, NOISE)
            case Fault.NO_PROTOCOL:
                transport.write(OTHER_PROTOCOL)
            case Fault.SHORTER:
                self._begin(stream, message + b"123456789", message)
                self._end(stream)
            case Fault.LONGER:
                self._begin(stream, message[:-9], message)
                self._end(stream)
            case Fault.TWICE:
                self._begin(stream, message, message + _framed(message))
                self._end(stream)
            case Fault.WRONG_TYPE:
                self._h2.send_headers(stream, ((":status", "200"), ("content-type", "text/html")))
                self._h2.send_data(stream, PAGE, end_stream=True)
                self._flush()
            case Fault.NO_STATUS:
                self._begin(stream, message, message)
                self._h2.end_stream(stream)
                self._flush()
            case Fault.GOAWAY:
                self._h2.close_connection(last_stream_id=max(stream - 2, 0))
                self._flush()
                transport.close()
            case Fault.GOAWAY_AFTER:
                transport.write(_goaway(stream))
                self._say(stream, message)
                transport.close()
            case Fault.REFUSED_STREAM:
                self._rst(stream, 7)
            case Fault.RST_STREAM:
                self._rst(stream, 2)
            case _:
                self._say(stream, message)

    def _begin(self, stream: int, said: bytes, sent: bytes) -> None:
        """Headers and a message that may be another than its length says."""
        self._h2.send_headers(stream, HEAD)
        self._h2.send_data(stream, struct.pack(">BI", 0, len(said)) + sent)
        self._flush()

    def _end(self, stream: int) -> None:
        self._h2.send_headers(stream, (("grpc-status", "0"),), end_stream=True)
        self._flush()

    def _rst(self, stream: int, code: int) -> None:
        self._h2.reset_stream(stream, code)
        self._flush()

    def _say(self, stream: int, message: bytes | None, code: int = 0, text: str = "") -> None:
        if self._transport is None or stream not in self._calls:
            return
        status = (("grpc-status", str(code)), ("grpc-message", text))
        if message is None:
            self._h2.send_headers(stream, (*HEAD, *status), end_stream=True)
        else:
            self._h2.send_headers(stream, HEAD)
            framed = _framed(message)
            for at in range(0, len(framed), FRAME):
                self._h2.send_data(stream, framed[at : at + FRAME])
            self._h2.send_headers(stream, status, end_stream=True)
        self._flush()


def _framed(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def _goaway(last: int) -> bytes:
    """GOAWAY by hand: h2 would write nothing after its own."""
    return struct.pack(">HBBBIII", 0, 8, 7, 0, 0, last, 0)


def _response(model: str, found: Outputs) -> bytes:
    response = pb.PredictResponse()
    response.model_spec.name = model
    response.model_spec.version.value = VERSION
    response.model_spec.signature_name = "serving_default"
    for name, values in found.items():
        tensor_proto.write(np.array(values, _TYPES[name]), response.outputs[name])
    return response.SerializeToString()


def _v2_response(model: str, found: Outputs) -> bytes:
    columns = {name: ArrayColumn(np.array(values, _TYPES[name])) for name, values in found.items()}
    return v2_grpc.encode_reply(Reply(columns, VERSION), model)


def read_v2_response(message: bytes) -> tuple[tuple[float, float], ...] | None:
    """The rows of a ModelInferResponse, as ``read_response`` has them."""
    try:
        columns = v2_grpc.decode_reply(message).columns
    except BackendProtocolError:
        return None
    if not {"y", "f"} <= set(columns):
        return None
    y, f = (cast("ArrayColumn", columns[name]).array.tolist() for name in "yf")
    return tuple(zip(y, f, strict=True)) if len(y) == len(f) else None


def read_response(message: bytes) -> tuple[tuple[float, float], ...] | None:
    """The rows of a PredictResponse, as (y, f); for callers. None: it has no such rows."""
    try:
        response = pb.PredictResponse.FromString(message)
    except DecodeError:
        return None
    if not {"y", "f"} <= set(response.outputs):
        return None
    y, f = _values(response, "y"), _values(response, "f")
    return tuple(zip(y, f, strict=True)) if len(y) == len(f) else None


def _values(response: pb.PredictResponse, name: str) -> list[float]:
    array, _ = tensor_proto.read(response.outputs[name], name, tensor_proto.MAX_ELEMENTS)
    return [value.item() for value in array]
