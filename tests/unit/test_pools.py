"""Pools from a configuration: what is opened, who has which model, and what does not fit together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
import pytest

from batchproxy.config import Config
from batchproxy.core.columns import Array
from batchproxy.core.errors import ConfigError, NoEndpoint
from batchproxy.core.raw import GRPC, REST
from batchproxy.observe import NullObserver
from batchproxy.pools import Pools, open_pools


def double(inputs: dict[str, Array]) -> dict[str, Array]:
    """A model to be opened by name."""
    return {"y": inputs["x"] * np.int64(2)}


FUNCTION = "python:tests.unit.test_pools:double"
HALF = "python:tests.models:picky"


@asynccontextmanager
async def opened(**document: Any) -> AsyncIterator[Pools]:
    """The pools of a configuration given as its document."""
    pools = open_pools(msgspec.convert(document, Config), NullObserver())
    try:
        yield pools
    finally:
        await pools.aclose()


async def test_embedded_models_are_served_under_their_names_by_one_engine_a_pool() -> None:
    """Two names of one pool share its engine; a pool that nobody refers to is not opened."""
    async with opened(
        pools=[{"name": "one", "endpoints": [HALF]}, {"name": "unused", "endpoints": ["python:nowhere:f"]}],
        models=[{"name": "a", "pool": "one"}, {"name": "b", "pool": "one", "max_batch_rows": 8}],
    ) as pools:
        names = [served.info.name for served in pools.directory.models()]
        (engine,) = pools.engines
        limits = [engine.policies[name].max_batch_rows for name in ("a", "b")]
        nobody = pools.directory.remote("c")

    assert ["a", "b"] == names
    assert [64, 8] == limits
    assert nobody is None


async def test_an_address_given_twice_is_two_endpoints() -> None:
    """Each with a name of its own, as metrics want it."""
    async with opened(
        pools=[{"name": "one", "endpoints": [HALF, HALF]}], models=[{"name": "a", "pool": "one"}]
    ) as pools:
        names = [endpoint.name for endpoint in pools.engines[0].scheduler.balancer.endpoints]

    assert [HALF, f"{HALF}#2"] == names


async def test_endpoints_of_different_models_do_not_make_a_pool() -> None:
    """The text says which differ, and what to do."""
    with pytest.raises(ConfigError, match="are not the same model"):
        async with opened(
            pools=[{"name": "one", "endpoints": [HALF, "python:tests.models:total"]}],
            models=[{"name": "a", "pool": "one"}],
        ):
            pass


async def test_a_model_that_cannot_be_opened_names_its_pool() -> None:
    """As the configuration calls it."""
    with pytest.raises(ConfigError, match="pool 'one': .*nowhere"):
        async with opened(
            pools=[{"name": "one", "endpoints": ["python:nowhere:f"]}], models=[{"name": "a", "pool": "one"}]
        ):
            pass


async def test_servers_get_their_models_and_whatever_else_there_is() -> None:
    """A named model, '*' for the rest, an embedded model beside them; options and policies by name."""
    async with opened(
        pools=[
            {"name": "tf", "endpoints": ["grpc://127.0.0.1:1,http://127.0.0.1:2"]},
            {"name": "own", "endpoints": [FUNCTION]},
        ],
        models=[
            {"name": "resnet", "pool": "tf", "max_batch_rows": 16, "partition_by": ["x-tenant"]},
            {"name": "*", "pool": "tf", "max_batch_rows": 32},
            {"name": "double", "pool": "own"},
        ],
    ) as pools:
        directory = pools.directory
        pool = directory.default
        assert pool is not None
        found = [directory.remote(name) for name in ("resnet", "anything", "double")]
        limits = [pool.engine.policies[name].max_batch_rows for name in ("resnet", "anything")]
        partitions = [pool.models["resnet"].partition_by, pool.others.partition_by]
        with pytest.raises(NoEndpoint):
            await pool.catalogue.find("resnet", None)

    assert [pool, pool, None] == found
    assert [16, 32] == limits
    assert [("x-tenant",), ("authorization",)] == partitions
    assert {GRPC, REST} == set(pool.doors)


async def test_what_is_not_to_be_batched_is_not_read() -> None:
    """``batching: false`` forbids what ``batchable: true`` would allow."""
    async with opened(
        pools=[{"name": "servers", "endpoints": ["http://127.0.0.1:9"]}],
        models=[
            {"name": "a", "pool": "servers", "batching": False, "batchable": True},
            {"name": "b", "pool": "servers", "batchable": True},
        ],
    ) as pools:
        found = [pools.directory.remote(name) for name in "ab"]

    assert [False, True] == [pool.models[name].batchable for pool, name in zip(found, "ab", strict=True) if pool]


async def test_without_a_star_other_names_are_nobodys() -> None:
    """A pool of one named model gets that name only; calls without a name are not batched."""
    async with opened(
        pools=[{"name": "tf", "endpoints": ["grpc://127.0.0.1:1"]}], models=[{"name": "resnet", "pool": "tf"}]
    ) as pools:
        directory = pools.directory
        found = directory.remote("resnet"), directory.remote("other"), directory.default
        nameless = pools.engines[0].policies[""]

    assert found[0] is not None
    assert (None, None) == found[1:]
    assert not nameless.batching


async def test_servers_of_one_pool_have_the_same_doors() -> None:
    """Else some could not take what others can."""
    with pytest.raises(ConfigError, match="some endpoints have doors that others lack"):
        async with opened(
            pools=[{"name": "tf", "endpoints": ["grpc://127.0.0.1:1", "http://127.0.0.1:2"]}],
            models=[{"name": "*", "pool": "tf"}],
        ):
            pass
