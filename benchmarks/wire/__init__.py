"""``python -m benchmarks wire``: our listeners against other people's, under other people's load generators.

It begins in ``run.measure``. Only what is measured and how; nothing here is part of the proxy. One run is a number of
rounds, and a round loads every target once, in turn, so that whatever else the machine does falls on all of them;
every ratio is taken within a round and its median over the rounds is reported. REST is loaded by ``wrk`` and gRPC by
``h2load``, both written in C: a load in Python would be slower than the servers.

``targets`` says what is loaded and starts it, ``peers`` runs nginx and HAProxy, ``tools`` runs the load generators,
``callers`` are blocking callers for all else: one call at a time (``rates``), calls at a given pace (``paced``, for
``stall``), connections that do nothing (``idle``, for ``resources``). ``bars`` compares with what is due.
"""
