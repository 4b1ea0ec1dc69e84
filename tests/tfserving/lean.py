"""TensorFlow without its public face: the package as a path, so that only what a served graph needs is imported.

``import tensorflow`` reads Keras, the gradients of every operation and whatever else there is: 4 s of a core. Sessions,
the loader of saved models and the messages are 0.8 s, and the tests start such a server some forty times.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType


def open_tensorflow() -> None:
    """Makes ``tensorflow`` a package that runs nothing when it is imported; what is in it is found as ever.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if "tensorflow" in sys.modules:
        return
    found = importlib.util.find_spec("tensorflow")
    if found is None or found.submodule_search_locations is None:
        raise ModuleNotFoundError("The test server runs graphs in TensorFlow, which is not installed: make setup")
    package = ModuleType("tensorflow")
    package.__path__ = list(found.submodule_search_locations)
    sys.modules["tensorflow"] = package
