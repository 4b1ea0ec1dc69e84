"""Requests between the recorded ones: what else the recorded models can be asked, rule by rule. No tests live here.

The records hold some of each kind; these are all that a few values make when they are put into every place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import NamedTuple

NUMBERS = (
    "1", "0", "-1", "-0", "-0.0", "1.0", "1.5", "1e0", "1e2", "127", "128", "255", "256", "300", "-129", "32768",
    "65536", "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "18446744073709551616", "NaN", "-Infinity", "1e-400", "5e-324", "1e39",
    "2.2250738585072014e-308", "1.17549435e-38", "1.1754942e-38", "3.4028235677973366e38", "0.1", "123456.7",
    "999999.5", "1e15", "1e22", "0.00001", "123456789", "0.333333333", "9007199254740993",
    "12345678901234567890123456789",
)  # fmt: skip
"""Of each type some are elements, some are not, some become others."""

OTHERS = ("true", "false", "null", "[]", "[1]", "{}", '{"a": 1}', '{"b64": 1}', '{"b64": "AA=="}', '"1"')
"""What is no number."""

TEXTS = (
    '""', '"é"', '"\\u0000"', '"\\u001f\\u007f/\\/"', '"\\ud83d\\ude00"', '"\\udc00"', '"<>&\'"', '{"b64": ""}',
    '{"b64": "YQ"}', '{"b64": "YQ="}', '{"b64": "YQ=="}', '{"b64": "YQ==="}', '{"b64": "Y"}', '{"b64": "YWJj="}',
    '{"b64": "YWJj===="}', '{"b64": "YQ.."}', '{"b64": " Y\\nQ = ="}', '{"b64": "-_-_"}', '{"b64": "YQ==YQ=="}',
    '{"b64": "=YQ="}', '{"b64": "é"}', '{"b64": "YR=="}', '{"b64": "/w=="}', '{"B64": "YQ=="}', '{"b64": null}',
    '{"b64": "YQ==", "b64": "YQ=="}', '{"s": "a"}', '{"s": {"b64": "YQ=="}}', f'"{"x" * 300}"', "1", "null", '["a"]',
    "{}", '{"b64": "%s"}' % ("!" * 300),
)  # fmt: skip
"""Strings, base64 and what is neither."""

FORMS = ('{"instances": [%s]}', '{"inputs": [%s]}', '{"inputs": %s}', '{"instances": [%s, %s]}')
NAMED = ('{"instances": [{"%(n)s": %(v)s}]}', '{"inputs": {"%(n)s": [%(v)s]}}', '{"inputs": {"%(n)s": %(v)s}}')

SHAPES = (
    "%s", "[%s]", "[[%s]]", "[[[%s]]]", "[]", "[[]]", "[[],[]]", "[[[],[]],[[],[]]]", "[%s,%s]", "[[%s,%s],[%s,%s]]",
    "[[%s,%s,%s]]", "[[%s],[%s,%s]]", "[[%s,%s],[%s]]", "[%s,[%s]]", "[[%s],%s]", "[[%s],[]]", "[[],[%s]]",
    "[[[%s]],[%s]]", "{}", "null", "[null]", "[[%s,null]]", '{"x":%s}', '{"x":[]}', '{"x":[[%s,%s,%s]]}',
    '{"x":%s,"y":%s}', '[{"x":[%s]}]', '[{"x":[]},{"x":[]}]', '[{"x":[%s,%s]},{"x":[%s]}]', '[{"x":%s},%s]',
    '[%s,{"x":%s}]', '[{"x":[[%s,%s]]},{"x":[[%s],[%s]]}]', '[{"x":%s,"x":%s},{"x":%s}]', '[{"x":%s},{"y":%s}]',
    '[{"x\\u0000y":%s}]', '{"x\\u0000":%s}', '{"x":[%s],"x":[%s,%s]}', '[{"x":%s},{}]', '[{},{"x":%s}]', '[{"b64":%s}]',
)  # fmt: skip
"""Nested lists and objects around elements."""

SHAPED = {
    ("any_rank", ""): "1.5", ("any_rank", "ints"): "1", ("any_rank", "strs"): '"a"', ("hpt2", ""): "1.5",
    ("var_len", ""): "1.5", ("fixed_batch", ""): "1.5", ("scalar_out", ""): "1.5", ("scalar_out", "scalar_in"): "1.5",
    ("int64_model", ""): "2", ("many_out", ""): "1.5", ("special", ""): "0", ("special", "dbl"): "3",
    ("reject_negative", ""): "-1", ("no_input", "const"): "1", ("half_plus_two", ""): "1.5",
}  # fmt: skip
"""Model and signature, and an element that it takes."""

PAIRS = (
    '[{"a":[1,2],"b":[3,4]}]', '[{"b":[3,4],"a":[1,2]},{"a":[1,2],"b":[3,4]}]', '[{"a":[1,2]}]', '[{"b":[1,2]}]',
    '[{"a":[1,2],"b":[3,4],"c":1}]', '[{"a":[1,2],"b":[3,4]},{"a":[1,2]}]', '[{"a":[1],"b":[3]}]', '[{"a":1,"b":3}]',
    '[{"a":[1,2],"b":[3,4],"a":[5,6]}]', '[{"a":[1,2],"b":[3,4],"a":[5]}]', "[[1,2]]", "[1]", "[]", "[{}]", "{}",
    '[{"a":[1,2],"b":["x",1]}]', '[{"a":[],"b":[]}]', '[{"a":[1,2],"b":[3,4]},5]', '[5,{"a":[1,2],"b":[3,4]}]',
    '{"a":[[1,2]],"b":[[3,4]]}', '{"a":[[1,2],[1,2]],"b":[[3,4]]}', '{"a":1,"b":2}', '{"a":[1,2],"b":[3,4]}',
    '{"a":[[1,2]],"b":[[3,4]],"c":1}', '{"b64":"AA=="}', '{"a":[[]],"b":[[]]}', '{"a":[[1,2]],"b":[[1],[2,3]]}',
)  # fmt: skip
"""For two inputs."""

BODIES = (
    "", " ", "\0", "{", "}", "[", "]", "{}", "[]", "{} x", "nullx", "nul", "tru", "-", ".5", "1.", "1e", "1e+", "01",
    '"a', '"\\u12"', '"\\ud800"', "nan", "-NaN", "Inf", "NInf", "+1", "\ufeff", "0x10", "1_0", "// c", "/**/",
    '\ufeff{"instances":[1.0]}', '{"instances":[1.0]}\0', '{"instances":[1.0]} {"a":', '{"instances":[1.0],}',
    '{"instances":[1.0,]}', '{"instances":[,1.0]}', '{"instances" [1.0]}', '{"instances":[1.0]', '{"instances":[1.0}',
    "{instances:[1.0]}", "{'instances':[1.0]}", '{"instances":[1 2]}', '{"instances":[1e400]}', '{"instances":[NaN5]}',
    '{"x":1e400,"instances":[1.0]}', '{"instances":[1.0],"x":1e400}', '{"inst\\u0061nces":[1.0]}',
    '{"instances":[1.0],"instances":[2.0]}', '{"instances\\u0000":[1.0]}', '{"instances":[1.0],"x":"\x01"}',
    '{"instances":[1.0],"\\ud800":1}', '{"instances":"abc"}', '{"instances":{}}', '{"instances":true}',
    '{"inputs":[1.0],"instances":null}', '{"inputs":null,"instances":null}', '{"Instances":[1.0]}',
    '{"signature_name":"serving_default","signature_name":5,"instances":[1.0]}', '{"signature_name":[]}',
    '{"signature_name":5,"signature_name":"serving_default","instances":[1.0]}', '{"signature_name":"nope"}',
    '{"signature_name":"","instances":[1.0]}', '{"signature_name":"a\\u0000b","instances":[1.0]}',
    '{"signature_name":"é\\"","instances":[1.0]}', '{"signature_name":"regress_x_to_y","instances":["a"]}',
)  # fmt: skip
"""JSON that is none, or is read in one way among several."""

EXAMPLES = (
    '{"x":1.0}', '{"x":1}', '{"x":[1.0,2.0]}', '{"x":[]}', "{}", '{"x":null}', '{"x":[[1.0]]}', '{"x":{}}',
    '{"x":true}', '{"x":[1,true]}', '{"x":[1,1.5]}', '{"x":[1.5,1]}', '{"x":["a",1]}', '{"x":[1,"a"]}',
    '{"x":[1.5,9223372036854775808]}', '{"x":["a",{"b64":"YQ=="}]}', '{"x":[1,{"b64":"!"}]}', '{"x":{"b64":"!"}}',
    '{"x":{"b64":"YQ=="}}', '{"x":{"b64":1}}', '{"x":NaN}', '{"x":1e39}', '{"x":1e-40}', '{"x":9223372036854775808}',
    '{"x":18446744073709551616}', '{"x":1.0,"x":2.0}', '{"x":1,"x":2.0}', '{"x":2.0,"x":[]}', '{"x":1.0,"x2":5.0}',
    '{"x":1.0,"y":["a"]}', '{"x":1.0,"x\\u0000y":2.0}', '{"":1.0,"x":1.0}', "1", '"a"', "null", "[]", '[{"x":1.0}]',
)  # fmt: skip

INPUTS = (
    '{"examples": [%s]}', '{"examples": [{"x": 3.0}, %s]}', '{"context": %s, "examples": [{"x2": 1.0}, {"n": 2}]}',
)  # fmt: skip

ENVELOPES = (
    "{}", '{"examples": []}', '{"examples": {}}', '{"examples": null}', '{"instances": [1]}', '{"context": {}}',
    '{"context": 5}', '{"context": null, "examples": [{"x": 1.0}]}', '{"examples": [{"x": 1.0}]} more', "", "[]", "5",
    '{"examples": [{"x": 1.0}], "examples": [{"x": 2.0}]}', '{"signature_name": 5, "examples": [{"x": 1.0}]}',
)  # fmt: skip

SCORED = (
    ("half_plus_two", "regress_x_to_y"), ("half_plus_two", "regress_x2_to_y3"), ("half_plus_two", "classify_x"),
    ("half_plus_two", "classify_x_to_y"), ("half_plus_two", ""), ("half_plus_two", "nope"), ("example_tf2", ""),
    ("dtypes", "string"), ("nobodys", ""),
)  # fmt: skip

MODELS = (
    "/half_plus_two",
    "/multi_version",
    "/nobodys",
    "/half%5Fplus%5Ftwo",
    "/half%2Fplus",
    "/%",
    "/a%00b",
    "/..",
    "//x",
    "",
)
PLACES = (
    "", "/versions/1", "/versions/01", "/versions/2", "/versions/9223372036854775807", "/versions/9223372036854775808",
    "/versions/-1", "/versions/x", "/versions/", "/labels/stable", "/labels/STABLE", "/labels/can%61ry", "/labels/none",
    "/labels/", "/labels/a%2Fb", "/VERSIONS/1", "/versions/1/labels/stable", "/labels/stable/versions/1", "/",
)  # fmt: skip
ENDS = (
    ":predict",
    ":PREDICT",
    ":predict/",
    ":predict?x",
    ":predict#x",
    ":explain",
    ":",
    "",
    "/metadata",
    "/METADATA",
    "/metadata/",
)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "FOO", "get")
PATHS = (
    "/", "/v1", "/v1/", "/V1/MODELS/half_plus_two", "/v2/x", "/v1/models", "/v1/models?x",
    "/v1/models/half_plus_two?x=1", "/v1/models/half_plus_two/metadata", "/v1/models/half_plus_two:predict",
    "/v1/models/versions/1", "/v1/models/metadata", "/v1/%0a", "/v1/models/a|b", '/v1/models/a"b', "/v1/models/a[b]",
    "/v1/x^y", "*", "http://h/v1/models/half_plus_two", "http://h", "/monitoring/prometheus/metrics",
)  # fmt: skip

HEADERS: tuple[Mapping[str, str], ...] = (
    {"Origin": "http://a"}, {"Origin": "ftp://a"}, {"Content-Encoding": "identity"}, {"Content-Encoding": "GZIP"},
    {"Content-Encoding": "gzip"}, {"Content-Type": "text/plain"}, {"Accept": "text/html"}, {"Accept-Encoding": "gzip"},
    {"Cookie": "a=1"}, {"Upgrade": "h2c"}, {"X-Request-Id": "1"},
)  # fmt: skip


class Request(NamedTuple):
    """A request.

    Attributes:
        method: of HTTP.
        path: as sent.
        body: as sent.
        headers: beside those of framing.
    """

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str] = {}


def _post(model: str, verb: str, body: str, signature: str = "") -> Request:
    if signature:
        comma = "" if body == "{}" else ", "
        body = f'{{"signature_name": "{signature}"{comma}{body[1:]}' if body[:1] == "{" else body
    return Request("POST", f"/v1/models/{model}:{verb}", body.encode())


def _filled(form: str, value: str) -> str:
    return form.replace("%s", value)


def values() -> Iterator[Request]:
    """Every value in every form for every type."""
    dtypes = (
        "float", "double", "half", "bfloat16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
        "bool", "string", "complex64", "complex128",
    )  # fmt: skip
    for dtype, value, form in product(dtypes, (*NUMBERS, *OTHERS), FORMS[:2]):
        yield _post("dtypes", "predict", _filled(form, value), "" if dtype == "float" else dtype)


def strings() -> Iterator[Request]:
    """Text and bytes, in and out."""
    for (signature, name), value in product(
        (("", "s"), ("bytes_out", "s"), ("bytes_in", "image_bytes"), ("mat", "s")), TEXTS
    ):
        for form in FORMS:
            yield _post("strings", "predict", _filled(form, value), signature)
        for named in NAMED:
            yield _post("strings", "predict", named % {"n": name, "v": value}, signature)


def shapes() -> Iterator[Request]:
    """Lists and objects, and two inputs."""
    for ((model, signature), element), shape, key in product(SHAPED.items(), SHAPES, ("instances", "inputs")):
        yield _post(model, "predict", f'{{"{key}": {_filled(shape, element)}}}', signature)
    for signature, pair, key in product(("", "only_sum"), PAIRS, ("instances", "inputs")):
        yield _post("two_in_two_out", "predict", f'{{"{key}": {pair}}}', signature)


def bodies() -> Iterator[Request]:
    """What a body may be, whatever is asked for."""
    for model, body in product(("half_plus_two", "nobodys", "two_in_two_out"), BODIES):
        yield _post(model, "predict", body)


def examples() -> Iterator[Request]:
    """Classify and regress."""
    for (model, signature), verb in product(SCORED, ("classify", "regress")):
        for envelope in ENVELOPES:
            yield _post(model, verb, envelope, signature if "signature_name" not in envelope else "")
        if signature in {"regress_x_to_y", "classify_x"} or model == "example_tf2":
            for example, form in product(EXAMPLES, INPUTS):
                yield _post(model, verb, _filled(form, example), signature)


def routes() -> Iterator[Request]:
    """Paths, methods and headers."""
    body = b'{"instances": [1.0]}'
    for model, place, end in product(MODELS, PLACES, ENDS):
        for method in ("POST", "GET"):
            yield Request(method, f"/v1/models{model}{place}{end}", body if method == "POST" else b"")
    for method, path in product(METHODS, PATHS):
        yield Request(method, path, body if method in {"POST", "PUT", "PATCH"} else b"")
    for headers, path, method in product(
        HEADERS, (*PATHS[5:11], "/v1/models/nobodys:predict"), ("GET", "POST", "OPTIONS")
    ):
        yield Request(method, path, body if method == "POST" else b"", headers)
