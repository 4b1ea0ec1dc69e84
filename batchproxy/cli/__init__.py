"""The command line; one file a command. ``main`` is the entry point, and nothing else is public."""

from batchproxy.cli.commands import main as main
