"""``python -m batchproxy`` is the command ``batchproxy``. Nothing else lives here."""

from __future__ import annotations

from batchproxy.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
