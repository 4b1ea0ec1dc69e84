"""The pure core: it decides, and never waits, sends, logs or reads a clock. Nothing here imports asyncio or a socket.

Theory of operation
-------------------
A **Request** is one caller's call, decoded only as far as batching needs. Its **BatchKey** is the answer to "may these
two ride together?". Requests that may are queued as **Entries** in a **Lane**, the most urgent first; requests that may
not ride with anybody (``rows is None``) never see a lane: they are sent at once.

A **Batch** is made by *pulling*: only when an endpoint can use one is the lane asked for entries. So an idle endpoint
is used at once, and batches form by themselves exactly while it is busy. How many an endpoint can use, and how far
apart, its **Limit** learns from the work it gets done, and its **Costs** what a batch takes. Models and tenants
take **turns** by what their batches cost; within a turn the most urgent lane is served first.

A call ends in one of a few **Outcomes**. A rejected batch is bisected, so that one bad request fails alone and with the
text that a call of its own gets. An answer that cannot be split switches batching off for that signature.

Time is an argument. So the whole of it runs in virtual time, under a property test, thousands of seconds a second.
The files in reading order: ``request``, ``columns``, ``lane``, ``turns``, ``lanes``, ``cost``, ``window``,
``limit``, ``cap``, ``balancer``, ``batch``, ``padding``, ``compiling``, ``outcome``, ``ends``, ``scheduler``,
``assembly``.
"""
