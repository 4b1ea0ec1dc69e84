"""The load process: ``python -m benchmarks.load JOB``, a ``Job`` as JSON; prints a ``Result`` as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import uvloop

from benchmarks.load import grpc_client, rest_client
from benchmarks.load.job import Job, Result
from benchmarks.load.payloads import payload_of
from benchmarks.load.recorder import Recorder


async def run(job: Job) -> Result:
    """Load one server and say what came back."""
    recorder = Recorder(job, payload_of(job))
    connect = rest_client.connect if job.protocol == "rest" else grpc_client.connect
    callers = await connect(recorder, job.port, job.callers)
    await recorder.run()
    for caller in callers:
        caller.close()
    return recorder.result


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run(Job(**json.loads(sys.argv[1])))))))
