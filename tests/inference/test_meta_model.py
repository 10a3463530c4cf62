"""Models without weights, and configs of which none can be made."""

import pytest

from helpers import CourseError
from helpers.inference.meta_model import meta_model


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            '{"model_type": "qwen2_moe", "quantization_config": {"quant_method": "gptq", "bits": 4}}',
            "quantized",
        ),
        ('{"model_type": "t5"}', "no language model of that type"),
        ('{"model_type": "unheard_of"}', "no language model of that type"),
        ('{"model_type": "x", "auto_map": {"AutoConfig": "x.X"}}', "no language model of that type"),
        ("[]", "no JSON object"),
    ],
)
def test_a_config_that_is_no_language_model_is_one_sentence(tmp_path, content, words):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CourseError, match=words) as error:
        meta_model(tmp_path, "bfloat16")
    assert "\n" not in str(error.value)
