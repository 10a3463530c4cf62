"""Which attention is chosen, and what is said of flash-attn."""

import sys

import pytest

from helpers.inference.attention import FlashAttn, choose_attention, flash_attn_state


@pytest.mark.parametrize(
    ("flash_attn", "capabilities", "name", "word"),
    [
        (FlashAttn.WORKS, [(8, 6), (8, 6)], "flash_attention_2", "installed"),
        (FlashAttn.WORKS, [(9, 0)], "flash_attention_2", "installed"),
        (FlashAttn.WORKS, [(8, 0), (7, 5)], "sdpa", "8.0 or more"),
        (FlashAttn.WORKS, [], "sdpa", "GPUs only"),
        (FlashAttn.MISSING, [(8, 6), (8, 6)], "sdpa", "flash-attn is not installed"),
        (FlashAttn.MISSING, [], "sdpa", "GPUs only"),
        (FlashAttn.BROKEN, [(12, 0)], "sdpa", "import fails"),
    ],
)
def test_attention(flash_attn, capabilities, name, word):
    attention = choose_attention(flash_attn, capabilities)
    assert attention.name == name
    assert word in attention.reason
    assert "flash-attn" in attention.reason


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("", FlashAttn.WORKS),
        ("raise ImportError('undefined symbol')", FlashAttn.BROKEN),
        ("raise OSError('libcudart.so.12: no such file')", FlashAttn.BROKEN),
        ("import nothing_of_this_name", FlashAttn.BROKEN),
    ],
)
def test_a_broken_flash_attn_is_not_a_missing_one(tmp_path, monkeypatch, code, state):
    (tmp_path / "flash_attn.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
    assert flash_attn_state() == state
    sys.modules.pop("flash_attn", None)


def test_a_missing_flash_attn(monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    assert flash_attn_state() in (FlashAttn.MISSING, FlashAttn.BROKEN)
