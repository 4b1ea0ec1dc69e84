"""What a real TF Serving answered to REST calls (``tests/golden/rest_*.json``), and what our codec answers.

The models are the Python twins of the recorded ones. The few cases that cannot match are in one table with their
reasons; an entry that has become stale fails.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from batchproxy.codecs import _dtypes, tfs_rest
from batchproxy.codecs.tfs_grpc import VersionStatus
from batchproxy.core.columns import ArrayColumn
from batchproxy.core.errors import BatchProxyError, Code, RequestError, UnknownModel
from batchproxy.core.request import Reply
from batchproxy.core.shapes import ModelInfo, Signature, TensorSpec
from tests.golden_cases import INIT_OP, Answer, Case, load_cases, same_answer
from tests.twins import LABELS, OLDER, TWINS, Outputs, Twin

CASES = load_cases(
    "rest_predict_basic",
    "rest_json_parse",
    "rest_number_format",
    "rest_dtypes",
    "rest_strings",
    "rest_shapes",
    "rest_status_metadata",
    "rest_routing",
    "rest_cors",
    "rest_transport",
)

NODES = "the text names nodes of the recorded graph"
GZIP = "a body is inflated before the codec sees it"
DEVIATIONS: dict[str, str] = {
    "predict_basic/predict_on_regress_signature_valid_example": NODES,
    "shapes/model_error": NODES,
    "shapes/var_len_rank1": NODES,
    "shapes/convnet": "a trained model, without a twin",
    "transport/gzip_header_plain_body": GZIP,
    "transport/gzip_request_corrupt": GZIP,
}
"""Cases whose answer cannot be the recorded one, and why."""


# ---------------------------------------------------------------- the models, as they were configured


def recorded_signatures() -> dict[str, dict[str, Signature]]:
    """Model name to signature name to signature, from the recorded metadata."""
    models: dict[str, dict[str, Signature]] = {}
    for case in CASES.values():
        if case.path.endswith("/metadata") and case.answers[0].status == 200:
            metadata = json.loads(case.answers[0].body)
            models[metadata["model_spec"]["name"]] = {
                name: Signature(_specs(item["inputs"]), _specs(item["outputs"]), method_name=item["method_name"])
                for name, item in metadata["metadata"]["signature_def"]["signature_def"].items()
                if name != INIT_OP.decode()
            }
    return models


def _specs(infos: Mapping[str, Any]) -> dict[str, TensorSpec]:
    return {alias: _spec(info) for alias, info in infos.items()}


def _spec(info: Mapping[str, Any]) -> TensorSpec:
    (dtype,) = (row.name for row in _dtypes.TABLE if row.tf_name == info["dtype"])
    sizes = [int(dim["size"]) for dim in info["tensor_shape"]["dim"]]
    shape = tuple(None if size == -1 else size for size in sizes)
    return TensorSpec(dtype, None if info["tensor_shape"]["unknown_rank"] else shape, info["name"])


RECORDED = recorded_signatures()


def declared(functions: Mapping[str, Any]) -> dict[str, Signature]:
    """What the twins say of themselves."""
    return {name: function.__batchproxy_signature__ for name, function in functions.items()}


def served() -> dict[str, dict[int, tuple[ModelInfo, dict[str, Twin]]]]:
    """Model name to version to what is known of it and its functions."""
    found: dict[str, dict[int, tuple[ModelInfo, dict[str, Twin]]]] = {}
    newest = {(name, 2 if name in LABELS else 1): functions for name, functions in TWINS.items()}
    for (name, version), functions in {**newest, **OLDER}.items():
        info = ModelInfo(name, version, {**declared(functions), **RECORDED.get(name, {})})
        found.setdefault(name, {})[version] = (info, functions)
    return found


SERVED = served()


# ---------------------------------------------------------------- our answers


def ask(case: Case) -> Answer:
    """Our answer, through the codec and the twins, with nothing in between."""
    page = tfs_rest.outside(case.method, case.path)
    if page is not None:
        return Answer(page, tfs_rest.error_page(page))
    if case.method == "OPTIONS":
        return Answer(tfs_rest.preflight_status(case.headers.get("Origin")), b"")
    try:
        answer = Answer(200, respond(case))
    except BatchProxyError as error:
        answer = Answer(*tfs_rest.encode_error(error))
    return Answer(answer.status, b"") if case.method == "HEAD" else answer


def respond(case: Case) -> bytes:
    """The body of a successful answer."""
    target = tfs_rest.parse_target(case.method, case.path)
    if target.verb == "status":
        return tfs_rest.encode_status([VersionStatus(version) for version in status_versions(target)])
    if target.verb == "metadata":
        return tfs_rest.encode_metadata(look_up(target)[0])
    envelope = tfs_rest.parse_body(case.body)
    info, functions = look_up(target)
    if target.verb != "predict":
        raise RequestError("not answered", code=Code.UNIMPLEMENTED)
    signature = tfs_rest.signature_of(info, envelope.signature_name)
    call = tfs_rest.decode_predict(envelope, envelope.signature_name, signature)
    outputs = run(functions, envelope.signature_name, {name: item.array for name, item in call.columns.items()})
    reply = Reply({name: ArrayColumn(array) for name, array in outputs.items()}, info.version)
    return tfs_rest.encode_predict(reply, row_form=call.row_form)


def run(functions: Mapping[str, Twin], name: str, inputs: Outputs) -> Outputs:
    """Call a twin; a signature that was only recorded has none."""
    if name not in functions:
        raise RequestError("no such function", code=Code.UNIMPLEMENTED)
    try:
        return functions[name](inputs)
    except ValueError as error:
        raise RequestError(str(error)) from error


def look_up(target: tfs_rest.Target) -> tuple[ModelInfo, dict[str, Twin]]:
    """The version that answers."""
    versions, version = SERVED.get(target.model, {}), target.version
    if target.label is not None:
        version = LABELS.get(target.model, {}).get(target.label)
        if version is None:
            raise RequestError(f"Unrecognized servable version label: {target.label}")
    if version is None and versions:
        version = max(versions)
    if version is None:
        raise UnknownModel(f"Servable not found for request: Latest({target.model})")
    if version not in versions:
        raise UnknownModel(f"Servable not found for request: Specific({target.model}, {version})")
    return versions[version]


def status_versions(target: tfs_rest.Target) -> list[int]:
    """The versions a status answer lists; a label does not matter there."""
    versions = list(SERVED.get(target.model, {}))
    if target.version is not None:
        if target.version not in versions:
            raise UnknownModel(f"Could not find version {target.version} of model {target.model}")
        return [target.version]
    if not versions:
        raise UnknownModel(f"Could not find any versions of model {target.model}")
    return versions


# ---------------------------------------------------------------- the tests


@pytest.mark.parametrize("name", [name for name in CASES if name not in DEVIATIONS])
def test_our_answer_is_the_recorded_one(name: str) -> None:
    """Status and body, numbers as text."""
    answer = ask(CASES[name])

    assert same_answer(CASES[name], answer), (CASES[name].answers, answer)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_no_deviation_is_stale(name: str) -> None:
    """A case that matches by now is to leave the table."""
    answer = ask(CASES[name])

    assert not same_answer(CASES[name], answer)
