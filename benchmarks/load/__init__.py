"""Closed-loop load: N callers, each with one request under way, in a process of its own.

So load and server do not share a loop. The echo servers that are the yardsticks are here, too.
"""
