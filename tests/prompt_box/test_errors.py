"""What a learner is told when the model fails: one sentence, and advice that can help."""

import pytest
import torch

from helpers import CourseError
from helpers.prompt_box import explain


def failure_of(action) -> Exception:
    """The error that this really raises."""
    with pytest.raises(Exception) as caught:  # whichever it is
        action()
    return caught.value


def other_shapes():
    torch.ones(2, 3) @ torch.ones(2, 3)


def other_types():
    torch.ones(2, 2) @ torch.ones(2, 2, dtype=torch.bfloat16)


def sampling_from_nan():
    torch.multinomial(torch.tensor([float("nan"), 0.5]), 1)


def index_too_large():
    torch.nn.functional.embedding(torch.tensor([5]), torch.ones(2, 2))


def no_such_kernel():
    torch.ones(2, dtype=torch.int64).bernoulli_(torch.ones(2, dtype=torch.int64))


@pytest.mark.parametrize(
    "action", [other_shapes, other_types, sampling_from_nan, index_too_large, no_such_kernel]
)
def test_errors_of_torch_that_come_again(action):
    error = failure_of(action)
    for has_begun in (False, True):
        sentence = explain(error, has_begun)
        assert "would fail again" in sentence
        assert "Regenerate" not in sentence


@pytest.mark.parametrize(
    "error",
    [
        ValueError("temperature has to be positive"),
        TypeError("generate() got an unexpected keyword"),
        KeyError("content"),
        KeyError(),
        AttributeError("no attribute chat_template"),
        NotImplementedError("no kernel"),
        ImportError("jinja2 is missing"),
        Exception("System role not supported"),  # as Jinja's template errors, which are no RuntimeErrors
        FileNotFoundError("no offloaded weights"),
        RuntimeError("Expected all tensors to be on the same device, but found two"),
        RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'"),
    ],
    ids=repr,
)
def test_permanent_errors_do_not_advise_another_try(error):
    for has_begun in (False, True):
        sentence = explain(error, has_begun)
        assert type(error).__name__ in sentence
        assert "would fail again" in sentence
        assert "Regenerate" not in sentence


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: device-side assert triggered",
        "CUDA error: an illegal memory access was encountered",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    ],
)
def test_a_lost_gpu_needs_a_new_kernel(message):
    sentence = explain(RuntimeError(message))
    assert "restart the kernel" in sentence
    assert "Regenerate" not in sentence


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=repr,
)
def test_memory_is_named_with_what_frees_some(error):
    assert explain(error).startswith("The memory ran out: press Clear")


@pytest.mark.parametrize("error", [RuntimeError("boom"), OSError("the disk went away")], ids=repr)
def test_what_may_pass_can_be_tried_again(error):
    assert "press Regenerate, or restart the kernel if it fails again" in explain(error, has_begun=True)


def test_what_fails_at_the_first_token_fails_again():
    assert "would fail again" in explain(RuntimeError("boom"), has_begun=False)


def test_a_course_error_speaks_for_itself():
    assert explain(CourseError("This is wrong: do that.")) == "This is wrong: do that."


def test_a_sentence_is_one_short_line():
    sentence = explain(ValueError("a\nb"))
    assert "ValueError: a)" in sentence
    assert "\n" not in sentence
    assert len(explain(RuntimeError("x" * 10_000))) < 400
