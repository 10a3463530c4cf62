"""The search for the largest request that fits."""

import re

import pytest
from test_real_config import real_config_with

from helpers import GIB, vram


@pytest.mark.parametrize("setting", ["prompt", "batch"])
def test_the_largest_setting_grows_beyond_one_that_fits(setting):
    config = real_config_with(layers=2)
    request = {"gpus": ["6GiB"], "prompt": 512, "new": 16}
    found = vram.largest(setting, config, **request)
    assert found > request.get(setting, 1)
    assert vram.forecast(config, **{**request, setting: found})["fits"]
    assert not vram.forecast(config, **{**request, setting: found + 1 + found // 50})["fits"]


def test_nearest_settings_fit_and_the_next_do_not():
    config = real_config_with(layers=2)
    request = {"gpus": ["6GiB"], "batch": 8, "prompt": 16384, "new": 16}
    result = vram.forecast(config, **request)
    sentence = vram.verdict(result, config, **request)
    pattern = r"GPU 0 lacks (\d+\.\d\d) GiB during prefill: take batch (\d+) or prompt (\d+)\."
    found = re.fullmatch(pattern, sentence)
    row = result["gpus"][0]
    assert float(found[1]) == round((row["needs"] - row["size"]) / GIB, 2)
    for setting, value in (("batch", int(found[2])), ("prompt", int(found[3]))):
        assert vram.forecast(config, **{**request, setting: value})["fits"]
        assert not vram.forecast(config, **{**request, setting: value + 1 + value // 50})["fits"]
