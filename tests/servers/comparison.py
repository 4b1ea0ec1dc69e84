"""docs/comparison.md as a table and as text: what each batcher does in thirteen cases. ``make docs`` writes it.

What was run is what ``cases.CASES`` say, word for word, and ``test_comparison.py`` holds it against the servers; what
was read has its source. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

CONTENDERS = ("batchproxy before Triton", "batchproxy before MLServer", "Triton", "MLServer")


class Cell(NamedTuple):
    """What one of them does.

    Attributes:
        passes: None: the case is not one for it.
        text: in words; of those that are run, the very words of the case.
    """

    passes: bool | None
    text: str

    def __str__(self) -> str:
        return f"{_VERDICTS[self.passes]}: {self.text}"


_VERDICTS = {True: "pass", False: "**fail**", None: "not its case"}


class Row(NamedTuple):
    """One case.

    Attributes:
        due: what has to happen.
        run: of each of ``CONTENDERS``.
        tf_serving: as its source says, or an answer of its that was recorded.
        kserve: as its source says.
    """

    due: str
    run: Sequence[Cell]
    tf_serving: Cell
    kserve: Cell


def _same(text: str) -> list[Cell]:
    return [Cell(True, text)] * 2


EACH = "each model's callers get that model's answers"
ONE_BY_ONE = "all are answered rightly, one by one"

TABLE: dict[str, Row] = {
    "two models in one window": Row(
        EACH,
        [Cell(True, EACH)] * 4,
        Cell(True, "a queue for each model's version, and each set of tensors [1]"),
        Cell(False, "the path of whoever came last is used for all: others get that model's answers [2]"),
    ),
    "int64 above 2^53": Row(
        "kept to the last digit",
        [Cell(True, "kept to the last digit")] * 4,
        Cell(True, "read and written as 64-bit integers [3]"),
        Cell(False, "read into `interface{}`, a float64: the last digits change [2]"),
    ),
    "a bad row among 31 good ones": Row(
        "31 are answered rightly",
        [
            *_same("31 are answered rightly, 1 get 400"),
            Cell(False, "0 are answered rightly, 32 get 400"),
            Cell(False, "0 are answered rightly, 32 get 400"),
        ],
        Cell(False, "the error, with others' values in its text, is copied to all 32 [1] [`batching/poisoned`]"),
        Cell(False, "all 32 get 200, with the error's text as `message` [2]"),
    ),
    "the model says 429, 500, 503": Row(
        "each caller reads the status; Triton's models have no word for 429",
        [
            Cell(True, "429 is 503, 500 is 500, 503 is 503"),
            Cell(True, "429 is 429, 500 is 500, 503 is 503"),
            Cell(True, "429 is 503, 500 is 500, 503 is 503"),
            Cell(True, "429 is 429, 500 is 500, 503 is 503"),
        ],
        Cell(True, "the code of the call is copied to all of it [1]"),
        Cell(False, "all are 200, with the text as `message` [2]"),
    ),
    "an answer with another number of rows": Row(
        "nobody is told 200 without a row",
        [
            *_same(ONE_BY_ONE),
            Cell(None, "its backends split; a Python model that cuts at the row counts says: 200 without a row"),
            Cell(False, "200 without a row"),
        ],
        Cell(True, "FAILED_PRECONDITION for all, and for a request alone where its rows are not as many [1]"),
        Cell(False, "it is noticed, and all get 200 without predictions, and a `message` [2]"),
    ),
    "a caller goes away while it waits": Row(
        "its row is not run, and the others get theirs",
        [
            *_same("its row is not run; the others get theirs"),
            Cell(False, "its row is run all the same; the others get theirs"),
            Cell(False, "the others of its batch are never answered"),
        ],
        Cell(False, "a request that is queued cannot be cancelled: its row is run [1]"),
        Cell(False, "`context.Background()`: nobody notices, its row is run [2]"),
    ),
    "a caller gives 5 ms": Row(
        "it is told, and its row is not run",
        [
            *_same("504, and not run"),
            Cell(True, "503, and not run"),
            Cell(False, "answered after all, with 200"),
        ],
        Cell(False, "run while any neighbour has time; 429 if all of the batch are late [1]"),
        Cell(False, "deadlines are not read; its row is run [2]"),
    ),
    "40 rows where batches have 32": Row(
        "answered rightly",
        [*_same("answered rightly"), Cell(False, "refused with 400"), Cell(True, "answered rightly")],
        Cell(False, "400, unless `enable_large_batch_splitting` is set [1] [`batching/five_too_big`]"),
        Cell(True, "answered: the size is looked at afterwards, so the call has 40 rows [2]"),
    ),
    "half of the callers want one output": Row(
        "each gets what it asked for",
        [
            *_same("each gets what it asked for"),
            Cell(True, "each gets what it asked for"),
            Cell(False, "some do not get what they asked for"),
        ],
        Cell(True, "another set of outputs is another queue [1]"),
        Cell(None, "its protocol, the REST row form, has no such filter"),
    ),
    "rows of one, two and three values": Row(
        "each is answered rightly",
        [
            *_same("shapes go apart, each is answered rightly"),
            Cell(True, "shapes go apart, each is answered rightly"),
            Cell(False, "merged all the same: errors, or others' values"),
        ],
        Cell(False, "FAILED_PRECONDITION for all; or padded, and answers stay padded [1] [`batching_nopad/var_len`]"),
        Cell(False, "merged all the same, so the server refuses all of it [2]"),
    ),
    "strings": Row(
        "kept",
        [Cell(True, "kept")] * 4,
        Cell(True, "kept [`batching/strings`]"),
        Cell(True, "kept, as text of JSON [2]"),
    ),
    "two `authorization` headers": Row(
        "who differs in it shares no call",
        [
            *_same("they share no call"),
            Cell(False, "they share one call"),
            Cell(False, "they share one call"),
        ],
        Cell(False, "who calls is not looked at: they share one call [1]"),
        Cell(False, "they share one call, which carries no header of theirs [2]"),
    ),
    "a request of no rows": Row(
        "told at once what it would be told alone, and the others get theirs",
        [
            *_same("200, and no rows; the others get theirs"),
            Cell(True, "refused with 400; the others get theirs"),
            Cell(True, "200, and no rows; the others get theirs"),
        ],
        Cell(
            False,
            "row form: 400; else it waits until somebody else comes (56 s seen) [1] [`batching/empty_batch`]",
        ),
        Cell(True, "400, `no instances in the request` [2]"),
    ),
}
"""Case to what happens; the cases of ``cases.CASES``, in their order."""

HEAD = """\
# Comparison: what a shared call does to those who share it

Generated from `tests/servers/comparison.py` by `make docs`.

A caller who shares a call with 31 others should notice nothing of them. Thirteen cases in which batchers differ, each
run here against real servers with their own batching, and against batchproxy before the same servers without it; what
cannot be run here is told as its source has it. Each cell that was run is a test, which fails when the server does
anything else: `tests/servers/test_comparison.py` `test_what_happens`, with the contender and the case as its name.

Everybody has the same settings: 32 requests to a batch, and a window of one second, so that those who come together
surely share a call (the tests look, and send them off again where they did not). Callers speak the Open Inference
Protocol, JSON over REST; who goes away does so over gRPC. The models run all rows of a call as one, in numpy, and their
answers tell how many rows there were.

| Case | Passes if | batchproxy, before Triton / before MLServer | Triton | MLServer | TF Serving (published) | \
KServe's batcher (published) |
|---|---|---|---|---|---|---|
"""

FOOT = """
Run: batchproxy of this tree; Triton 2.51.0 (`nvidia-pytriton` 0.7.0) with `dynamic_batching`, `preferred_batch_size` 32
and a queue policy that heeds callers' timeouts (which it does not do unless told to, and then only below a limit of its
own); MLServer 1.7.1 with `max_batch_size` 32 and `max_batch_time` 1. Triton's other backends split an answer
themselves; only its Python backend comes in a wheel, and there the model does. A Triton model that runs its requests
one by one isolates the bad row, and batches nothing. Triton looks for cancelled requests "at some critical points"
([its manual](https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/request_cancellation.html));
one that waits in its batcher's window was past them. Of MLServer's batch nobody is answered, since the one who left is
missing when the answers are handed out.

Published:

1. TensorFlow Serving, commit 9d981c5c (2.20): `tensorflow_serving/batching/batching_session.cc`, `batching_util.h`;
   TensorFlow 2.21: `core/kernels/batching_util/shared_batch_scheduler.h`. Where a time is named, it was seen on 2.20.0.
2. KServe, commit 018728be: `pkg/batcher/handler.go`, which speaks the REST row form only.
3. TensorFlow Serving, the same commit: `tensorflow_serving/util/json_tensor.cc`.

Names in brackets are answers of a `tensorflow_model_server` 2.20.0 with `--enable_batching`, recorded in
`tests/golden/rest_batching*.json`.
"""


def comparison_page() -> str:
    """The whole page."""
    return HEAD + "".join(_line(case, row) for case, row in TABLE.items()) + _totals() + FOOT


def _line(case: str, row: Row) -> str:
    first, second, *others = row.run
    ours = str(first) if first == second else f"{first} / {second.text}"
    return f"| {' | '.join([case, row.due, ours, *map(str, others), str(row.tf_serving), str(row.kserve)])} |\n"


def _totals() -> str:
    columns = list(zip(*((*row.run[1:], row.tf_serving, row.kserve) for row in TABLE.values()), strict=True))
    cells = [
        f"{sum(cell.passes is True for cell in column)} of {sum(cell.passes is not None for cell in column)}"
        for column in columns
    ]
    return f"| **passed** | | {' | '.join(cells)} |\n"
