"""The models that are served: configuration, versions, labels, look-up, and runs in a TensorFlow session. No requests.

Each version is a session of its own, run below Python's checks (which know the signature's shapes): TF Serving never
compares a feed with the signature, so neither does this.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import text_format
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.client.session import Session
from tensorflow.python.framework.errors import OpError
from tensorflow.python.framework.ops import Graph
from tensorflow.python.saved_model import loader
from tensorflow_serving.config import model_server_config_pb2

from tests.tfserving.faults import Fault, invalid
from tests.tfserving.tensors import Array


def code_of(error: Exception) -> str:
    """The gRPC word of TensorFlow's exception: its class name, spelled differently."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).upper()


class Servable:
    """One version of one model, loaded.

    Attributes:
        name: of the model.
        version: a number.
        signatures: by name.
    """

    def __init__(self, name: str, version: int, path: Path) -> None:
        self.name = name
        self.version = version
        graph = Graph()
        self._session = Session(graph=graph)
        with graph.as_default():
            loaded = loader.load(self._session, ["serve"], str(path))
        self._session._extend_graph()
        self.signatures: dict[str, Any] = dict(loaded.signature_def)
        self._ends: dict[str, Any] = {}

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], timeout_ms: int | None) -> list[Array]:
        """Runs the graph.

        Args:
            feeds: by name of the tensor.
            fetches: names of tensors.
            timeout_ms: a run that takes longer fails; None for as long as it takes.
        """
        options = None
        if timeout_ms is not None and timeout_ms > 0:
            serialized = config_pb2.RunOptions(timeout_in_ms=timeout_ms).SerializeToString()
            options = pywrap_tf_session.TF_NewBufferFromString(serialized)
        try:
            results = pywrap_tf_session.TF_SessionRun_wrapper(
                self._session._session,
                options,
                {self._end(name): array for name, array in feeds.items()},
                [self._end(name) for name in fetches],
                [],
                None,
            )
        except OpError as error:
            raise Fault(code_of(error), str(error)) from None
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)
        # A lone string comes as bytes, which numpy would make fixed-width text of.
        return [np.array(result, object) if isinstance(result, bytes) else np.asarray(result) for result in results]

    def _end(self, tensor: str) -> Any:
        if tensor not in self._ends:
            self._ends[tensor] = self._session.graph.get_tensor_by_name(tensor)._as_tf_output()
        return self._ends[tensor]


class State(NamedTuple):
    """How a version is doing, as GetModelStatus tells it."""

    version: int
    state: str
    code: str
    message: str


class _Model(NamedTuple):
    base_path: Path
    versions: dict[int, Servable]
    labels: dict[str, int]
    states: list[State]


class Repository:
    """All models; look-ups by TF Serving's rules and in its words (facts 4.1-4.3)."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._models: dict[str, _Model] = {}
        self._reloading = threading.Lock()

    def configure(self, config: Any) -> None:
        """Serves what a ``ModelServerConfig`` lists, and nothing else. Versions that stay are not loaded again.

        Raises:
            Fault: as HandleReloadConfigRequest answers.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise invalid("Unsupported config type for reload: expected a model_config_list.")
        with self._reloading:
            self._models = {one.name: self._load(one) for one in config.model_config_list.config}

    def _load(self, config: Any) -> _Model:
        base_path = self._root / config.base_path
        old = self._models.get(config.name)
        kept = old.versions if old is not None and old.base_path == base_path else {}
        versions, states = {}, []
        for number, path in _wanted(config.model_version_policy, base_path):
            try:
                versions[number] = kept.get(number) or Servable(config.name, number, path)
                states.append(State(number, "AVAILABLE", "OK", ""))
            except Exception as error:
                states.append(State(number, "END", "UNKNOWN", str(error)))
        for number in config.version_labels.values():
            if number not in versions:
                raise Fault(
                    "FAILED_PRECONDITION",
                    f"Request to assign label to version {number} of model {config.name}, "
                    "which is not currently available for inference",
                )
        states.sort(reverse=True)
        return _Model(base_path, versions, dict(config.version_labels), states)

    def find(self, spec: Any) -> Servable:
        """The version that a ModelSpec asks for.

        Raises:
            Fault: it names none.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        choice = spec.WhichOneof("version_choice")
        if choice is None:
            if model is None or not model.versions:
                raise Fault("NOT_FOUND", f"Servable not found for request: Latest({spec.name})")
            return model.versions[max(model.versions)]
        version = spec.version.value
        if choice == "version_label":
            if model is None or spec.version_label not in model.labels:
                raise invalid(f"Unrecognized servable version label: {spec.version_label}")
            version = model.labels[spec.version_label]
        if model is None or version not in model.versions:
            raise Fault("NOT_FOUND", f"Servable not found for request: Specific({spec.name}, {version})")
        return model.versions[version]

    def states(self, spec: Any) -> list[State]:
        """All versions, the newest first, or the one that is named; labels are not looked at (facts 4.2).

        Raises:
            Fault: there is none.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        states = model.states if model is not None else []
        if spec.WhichOneof("version_choice") == "version":
            states = [state for state in states if state.version == spec.version.value]
            if not states:
                raise Fault("NOT_FOUND", f"Could not find version {spec.version.value} of model {spec.name}")
        if not states:
            raise Fault("NOT_FOUND", f"Could not find any versions of model {spec.name}")
        return states


def _wanted(policy: Any, base_path: Path) -> list[tuple[int, Path]]:
    there = sorted((int(path.name), path) for path in base_path.iterdir() if path.name.isdigit())
    match policy.WhichOneof("policy_choice"):
        case "all":
            return there
        case "specific":
            return [(number, path) for number, path in there if number in policy.specific.versions]
        case _:
            return there[-(policy.latest.num_versions or 1) :]


def read_config(path: Path, only: Sequence[str] = ()) -> Any:
    """A ``ModelServerConfig`` in text form.

    Args:
        path: the file; base paths in it are relative to its directory.
        only: the models to keep; all if empty.
    """
    config = text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    if only:
        kept = [one for one in config.model_config_list.config if one.name in only]
        del config.model_config_list.config[:]
        config.model_config_list.config.extend(kept)
    return config
