"""The checkpoint of full size without its numbers is what the real one is: sizes, names, shapes."""

import json

import pytest
from sparse_checkpoint import CONFIG, cut_into_shards, disk_used, size_of, tensors_of, write_checkpoint

from helpers.download.adopt import require_model
from helpers.download.compare import read_header

#: Bytes of the shards of Qwen/Qwen1.5-MoE-A2.7B-Chat, from the list of its files on the hub.
PUBLISHED = [
    3_999_614_664,
    3_999_385_424,
    3_988_628_968,
    3_999_386_088,
    3_988_629_648,
    3_999_386_104,
    3_988_629_648,
    668_484_400,
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The whole folder, written once."""
    folder = tmp_path_factory.mktemp("full-size") / "model"
    write_checkpoint(folder)
    return folder


def test_its_eight_sizes_are_the_published_ones(checkpoint):
    shards = sorted(checkpoint.glob("*.safetensors"))
    assert [shard.stat().st_size for shard in shards] == PUBLISHED


def test_it_takes_no_disk(checkpoint):
    assert disk_used(checkpoint) < 5_000_000


def test_its_index_and_headers_are_complete(checkpoint):
    require_model(checkpoint, [file.name for file in checkpoint.iterdir()])
    index = json.loads((checkpoint / "model.safetensors.index.json").read_text())
    assert len(index["weight_map"]) == 4_659
    assert index["metadata"]["total_size"] == 2 * 14_315_784_192


def test_safetensors_reads_it(checkpoint):
    from safetensors import safe_open  # imports torch, which takes seconds

    shard = checkpoint / "model-00008-of-00008.safetensors"
    with safe_open(shard, framework="pt") as file:
        norm = file.get_tensor("model.norm.weight")
        assert file.metadata() == {"format": "pt"}
    assert tuple(norm.shape) == (2048,)
    assert not norm.any()
    header, end = read_header(shard)
    assert list(header) == sorted(header)
    assert end == PUBLISHED[-1]


def test_its_tensors_are_those_of_the_model_class():
    """Two layers of the real width: the class, saved as a hub has it, names the same tensors and shapes."""
    import torch  # imports take seconds
    from transformers import AutoConfig, AutoModelForCausalLM

    config = json.loads(CONFIG.read_text()) | {"num_hidden_layers": 2}
    expected = dict(tensors_of(config))
    class_config = AutoConfig.for_model(**config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(class_config, dtype=torch.bfloat16)
    assert sum(size_of(shape) for shape in expected.values()) == 2 * model.num_parameters()
    for name, parameter in model.named_parameters():
        if ".experts." not in name:  # fused in the class, one by one on the hub
            assert expected[name] == list(parameter.shape), name


def test_a_tensor_that_would_overflow_a_shard_begins_the_next():
    billion = [10**9 // 2]  # numbers of two bytes
    tensors = [(str(number), billion) for number in range(9)]
    assert [len(shard) for shard in cut_into_shards(iter(tensors))] == [4, 4, 1]
