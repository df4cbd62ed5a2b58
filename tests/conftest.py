"""What all tests share: quiet libraries, and the tests that want the machine for themselves last."""

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A mistake that a fast test finds is then seen within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
