"""Public fakes for tests of code around batchproxy; our own tests use what is here. Nothing for production."""

from __future__ import annotations

# Requests, and what is in their answers
from batchproxy.testing.fakes import FIXED as FIXED

# What stands in for the outside
from batchproxy.testing.fakes import FakeBackend as FakeBackend
from batchproxy.testing.fakes import Gate as Gate
from batchproxy.testing.fakes import ManualClock as ManualClock
from batchproxy.testing.fakes import StubWaiter as StubWaiter
from batchproxy.testing.fakes import a_request as a_request
from batchproxy.testing.fakes import double as double
from batchproxy.testing.fakes import numbers_of as numbers_of

# Scheduler tests as scripts
from batchproxy.testing.playbook import Playbook as Playbook
