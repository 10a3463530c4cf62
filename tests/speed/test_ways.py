"""Which ways of sharing a model fit its shape."""

import json
from pathlib import Path

import pytest

from helpers import EMBEDDED_MODEL, CourseError
from helpers.speed.ways import Shape, check_way, read_shape

REAL = Shape(layers=24, heads=16, key_value_heads=16, experts=60, expert_width=1408)


@pytest.mark.parametrize(
    "way, processes", [("tensor", 2), ("tensor", 16), ("experts", 2), ("experts", 4), ("pipeline", 5)]
)
def test_what_fits(way, processes):
    check_way(REAL, way, processes)


@pytest.mark.parametrize(
    "way, processes, sentence",
    [
        ("experts", 64, "64 processes are more than the 60 experts of a layer: take at most 60"),
        ("experts", 8, "60 experts cannot be shared equally by 8 processes"),
        ("experts", 3, "16 heads of attention .* cannot be shared equally by 3"),
        ("tensor", 3, "An expert is 1408 wide, which 3 processes"),
        ("tensor", 11, "16 heads of attention"),
        ("pipeline", 25, "25 processes are more than the 24 layers"),
        ("tensor", 1, "1 process shares nothing"),
        ("magic", 2, "magic is no way to share a model: take one of tensor, experts, pipeline"),
    ],
)
def test_what_does_not_fit(way, processes, sentence):
    with pytest.raises(CourseError, match=sentence):
        check_way(REAL, way, processes)


def test_fewer_heads_for_keys_and_values():
    with pytest.raises(CourseError, match=r"16 heads of attention \(2 for keys and values\)"):
        check_way(Shape(24, 16, 2, 60, 1408), "tensor", 4)


def test_the_shape_is_read_from_the_config(tmp_path):
    config = json.loads(Path(EMBEDDED_MODEL, "config.json").read_text(encoding="utf-8"))
    assert read_shape(EMBEDDED_MODEL).experts == config["num_experts"]
    config.pop("num_key_value_heads")
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert read_shape(tmp_path).key_value_heads == config["num_attention_heads"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("{}", "its config.json lacks num_hidden_layers"),
        ("[]", "its config.json: list indices"),
        ("no json", "its config.json: Expecting value"),
        ('{"num_hidden_layers": null}', "its config.json: num_hidden_layers is None"),
        ('{"num_hidden_layers": 0}', "its config.json: num_hidden_layers is 0"),
        ('{"num_hidden_layers": "many"}', "its config.json: num_hidden_layers is 'many'"),
    ],
)
def test_a_config_that_says_nothing(tmp_path, text, words):
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(CourseError, match=rf"is no folder of a model that can be shared out \({words}"):
        read_shape(tmp_path)
