"""Ways to share a model out to several processes, and which of them a model allows.

tensor    every matrix is cut: each process holds a part of the heads, and of the width of every expert
experts   the same for attention, but each process holds some of the experts whole
pipeline  each process holds some of the layers

Transformers does the cutting (`DistributedConfig`). Its plan for Qwen2-MoE leaves the shared expert, the
router and the norms whole: every process of tensor and expert parallelism has a copy of them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from helpers import CourseError
from helpers.inference.errors import first_line
from helpers.language import listed, say

TENSOR = "tensor"
EXPERTS = "experts"
PIPELINE = "pipeline"
WAYS = (TENSOR, EXPERTS, PIPELINE)


@dataclass(frozen=True)
class Shape:
    """The numbers of a model that have to be divided among processes."""

    layers: int
    heads: int
    key_value_heads: int
    experts: int
    expert_width: int


def read_shape(model_dir: Path) -> Shape:
    """The shape in a model folder's config.json; CourseError if it has no experts, or is no config."""
    try:
        config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
        return Shape(
            layers=positive(config, "num_hidden_layers"),
            heads=positive(config, "num_attention_heads"),
            key_value_heads=positive(config, "num_key_value_heads", instead="num_attention_heads"),
            experts=positive(config, "num_experts"),
            expert_width=positive(config, "moe_intermediate_size"),
        )
    except KeyError as error:
        raise CourseError(
            say(
                "{name} is no folder of a model that can be shared out (its config.json lacks {what}): take "
                "a mixture-of-experts model such as Qwen1.5-MoE-A2.7B-Chat.",
                name=model_dir.name,
                what=error.args[0],
            )
        ) from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CourseError(
            say(
                "{name} is no folder of a model that can be shared out (its config.json: {words}): take a "
                "mixture-of-experts model such as Qwen1.5-MoE-A2.7B-Chat.",
                name=model_dir.name,
                words=first_line(error),
            )
        ) from error


def positive(config: dict, name: str, instead: str = "") -> int:
    """A number of a config, or of its entry `instead` where it is not set; ValueError if it is none."""
    if instead and config.get(name) is None:
        return positive(config, instead)
    value = config[name]
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}")
    return value


def sizes(way: str, processes: int) -> dict[str, int]:
    """Arguments of transformers' `DistributedConfig`."""
    if way == TENSOR:
        return {"tp_size": processes}
    if way == EXPERTS:
        return {"tp_size": processes, "ep_size": processes}  # ep_size alone is refused
    return {"pp_size": processes}


def check_way(shape: Shape, way: str, processes: int) -> None:
    """CourseError, with the numbers, if a model of this shape cannot be shared out so."""
    if way not in WAYS:
        raise CourseError(
            say("{way} is no way to share a model: take one of {ways}.", way=way, ways=listed(WAYS))
        )
    if processes < 2:
        raise CourseError(
            say("{processes} process shares nothing: take at least 2 processes.", processes=processes)
        )
    if way == PIPELINE:
        if processes > shape.layers:
            raise CourseError(
                say(
                    "{processes} processes are more than the {layers} layers that they share: take at most "
                    "{layers}.",
                    processes=processes,
                    layers=shape.layers,
                )
            )
        return
    if way == EXPERTS:
        check_experts(shape, processes)
    else:
        check_width(shape, processes)
    check_heads(shape, processes)


def check_experts(shape: Shape, processes: int) -> None:
    """CourseError if some process would get no expert, or not as many as the others."""
    if processes > shape.experts:
        raise CourseError(
            say(
                "{processes} processes are more than the {experts} experts of a layer: take at most "
                "{experts}.",
                processes=processes,
                experts=shape.experts,
            )
        )
    if shape.experts % processes:
        raise CourseError(
            say(
                "{experts} experts cannot be shared equally by {processes} processes: take a number that "
                "divides them.",
                experts=shape.experts,
                processes=processes,
            )
        )


def check_width(shape: Shape, processes: int) -> None:
    """CourseError if the width of an expert cannot be cut into equal parts."""
    if shape.expert_width % processes:
        raise CourseError(
            say(
                "An expert is {width} wide, which {processes} processes cannot share equally: take a number "
                "that divides it.",
                width=shape.expert_width,
                processes=processes,
            )
        )


def check_heads(shape: Shape, processes: int) -> None:
    """CourseError if the heads of attention cannot be shared equally; else it fails only while it runs."""
    if shape.heads % processes or shape.key_value_heads % processes:
        raise CourseError(
            say(
                "{heads} heads of attention ({key_value_heads} for keys and values) cannot be shared equally "
                "by {processes} processes: take a number that divides both.",
                heads=shape.heads,
                key_value_heads=shape.key_value_heads,
                processes=processes,
            )
        )
