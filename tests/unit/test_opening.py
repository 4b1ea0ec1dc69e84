"""One pool: what of another configuration it takes over in place, and what needs another pool."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from batchproxy.config import Config
from batchproxy.core.errors import ConfigError
from batchproxy.frontends.directory import Directory
from batchproxy.observe import NullObserver
from batchproxy.opening import Pool, open_pool
from batchproxy.wire.budget import Budget

FUNCTION = "python:tests.models:picky"
SERVER = "grpc://127.0.0.1:1"


def opened(models: list[dict[str, Any]], **pool: Any) -> tuple[Config, Pool]:
    """A configuration of one pool, and that pool."""
    entries = [{"pool": "p", **model} for model in models]
    config = msgspec.convert({"pools": [{"name": "p", **pool}], "models": entries}, Config)
    return config, open_pool(config, config.pools[0], config.models, NullObserver(), Budget())


@pytest.mark.parametrize(
    ("before", "after", "goes_on"),
    [
        ({"endpoints": [SERVER]}, {"endpoints": ["grpc://127.0.0.1:2"]}, True),
        ({"endpoints": [SERVER]}, {"endpoints": [SERVER], "max_inflight": 2}, False),
        ({"endpoints": [SERVER]}, {"endpoints": [SERVER], "static_headers": {"x": "y"}}, False),
        ({"endpoints": [SERVER]}, {"endpoints": [SERVER], "more": True}, True),
        ({"endpoints": [f"v2+{SERVER}"]}, {"endpoints": [f"v2+{SERVER}"], "more": True}, False),
        ({"endpoints": [FUNCTION]}, {"endpoints": [FUNCTION], "rows": 3}, True),
        ({"endpoints": [FUNCTION]}, {"endpoints": [FUNCTION], "more": True}, False),
        ({"endpoints": [FUNCTION]}, {"endpoints": [FUNCTION, FUNCTION]}, False),
    ],
)
async def test_what_is_taken_over_in_place(before: dict[str, Any], after: dict[str, Any], goes_on: bool) -> None:
    """Servers and models of servers, and what holds for a model; not what connections or models are made with."""
    _, pool = opened([{"name": "a"}], **before)
    more = [{"name": "b"}] if after.pop("more", False) else []
    other, another = opened([{"name": "a", "max_batch_rows": after.pop("rows", None)}, *more], **after)
    found = pool.goes_on_as(other.pools[0], other.models)
    await pool.aclose()
    await another.aclose()

    assert goes_on is found


async def test_settings_of_models_change_for_the_routes_and_for_the_engine() -> None:
    """At once."""
    _, pool = opened([{"name": "a"}], endpoints=[SERVER])
    other, another = opened(
        [{"name": "a", "max_batch_rows": 3, "partition_by": []}, {"name": "*", "batching": False}], endpoints=[SERVER]
    )
    pool.take_over(other.models, 7.0)
    remote = pool.remote
    assert remote is not None
    await pool.aclose()
    await another.aclose()

    assert (3, False) == (pool.engine.policies["a"].max_batch_rows, pool.engine.policies["b"].batching)
    assert ((), False) == (remote.models["a"].partition_by, remote.others.batchable)
    assert 7.0 == pool.engine.scheduler.call_timeout_s


async def test_embedded_models_are_published_under_their_names() -> None:
    """Those of servers are the directory's matter."""
    _, pool = opened([{"name": "a"}, {"name": "b"}], endpoints=[FUNCTION])
    directory = Directory(())
    pool.check()
    pool.publish(directory)
    await pool.start(0.01, 1.0)
    await pool.start(0.01, 1.0)
    await pool.aclose()

    assert ["a", "b"] == [served.info.name for served in directory.models()]


async def test_a_label_of_a_version_that_is_not_there_is_found_before_anything_changes() -> None:
    """In TF Serving's words."""
    model = "onnx:batchproxy/demo/models/digits"
    _, pool = opened([{"name": "a"}], endpoints=[model], onnx={"version_labels": {"stable": 77}})
    with pytest.raises(ConfigError, match="pool 'p': Request to assign label to version 77 of model a"):
        pool.check()
    await pool.aclose()
