"""Settings and fixtures of the routing tests."""

import sys
from pathlib import Path

import matplotlib
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "language"))  # for the texts of widgets
matplotlib.use("Agg")  # no display


@pytest.fixture
def handles(monkeypatch):
    """The modules on which hooks are set during the test, each with the hook's handle."""
    kept = []
    for name in ("register_forward_hook", "register_forward_pre_hook"):
        register = getattr(torch.nn.Module, name)

        def keep(module, *args, register=register, **options):
            handle = register(module, *args, **options)
            kept.append((module, handle))
            return handle

        monkeypatch.setattr(torch.nn.Module, name, keep)
    return kept


@pytest.fixture
def no_hook_left(handles):
    """At the end of the test, some hooks have been set and none is left."""
    yield
    assert handles
    for _, handle in handles:
        assert handle.id not in handle.hooks_dict_ref()
