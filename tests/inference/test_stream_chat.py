"""From token ids to text that arrives while it is written."""

import gc
import signal
import threading

import pytest
import torch
from inference_samples import PATIENCE, says, user

from helpers import CourseError
from helpers.inference import encode_chat, stream_chat

# Greedy, and exactly what the scripted model says: no penalty for repeating a token.
SCRIPTED = {"do_sample": False, "repetition_penalty": 1.0}


def generating() -> list[threading.Thread]:
    """The threads of streams that are still at work."""
    return [thread for thread in threading.enumerate() if "_generate" in thread.name]


def plain_ids(model, tokenizer, messages, **options) -> list[int]:
    """What `generate` answers without the stream."""
    inputs = encode_chat(tokenizer, messages)
    prompt_tokens = inputs["input_ids"].shape[1]
    return model.generate(**inputs, **options)[0, prompt_tokens:].tolist()


@pytest.mark.parametrize("text", ["hello", "简单介绍一下大语言模型", "🙂🙂", "x" * 50])
def test_the_pieces_join_to_what_generate_returns(loaded, text):
    model, tokenizer = loaded
    expected = plain_ids(model, tokenizer, user(text), do_sample=False, max_new_tokens=60)
    stream = stream_chat(model, tokenizer, user(text), do_sample=False, max_new_tokens=60)
    assert "".join(stream) == tokenizer.decode(expected, skip_special_tokens=True)
    assert stream.new_tokens == len(expected)
    assert stream.prompt_tokens == encode_chat(tokenizer, user(text))["input_ids"].shape[1]
    assert stream.first_token_seconds > 0
    assert stream.tokens_per_second > 0
    assert not generating()


def test_sampling_follows_the_seed_and_the_models_own_settings(loaded):
    model, tokenizer = loaded
    torch.manual_seed(1)
    expected = plain_ids(model, tokenizer, user("hello"), max_new_tokens=20)
    torch.manual_seed(1)
    text = "".join(stream_chat(model, tokenizer, user("hello"), max_new_tokens=20))
    assert text == tokenizer.decode(expected, skip_special_tokens=True)


@pytest.mark.parametrize(
    "answer", ["简单介绍：大语言模型。", "a🙂b👩‍👩‍👧c", "한국어 العربية", "�a�", "x\n\ny"]
)
def test_characters_of_several_tokens_come_out_whole(loaded, monkeypatch, answer):
    model, tokenizer = loaded
    tokens = [*tokenizer.encode(answer), tokenizer.eos_token_id]
    says(model, monkeypatch, tokens)
    stream = stream_chat(model, tokenizer, user("x"), **SCRIPTED)
    pieces = list(stream)
    assert "".join(pieces) == answer
    assert all(pieces)
    if "�" not in answer:
        assert not any("�" in piece for piece in pieces)
    assert stream.new_tokens == len(tokens)
    assert stream.finish_reason == "stop"


def test_broken_bytes_join_to_the_full_decode(loaded, monkeypatch):
    model, tokenizer = loaded
    half_of_a_face = tokenizer.encode("🙂")[0]
    tokens = [
        half_of_a_face,
        *tokenizer.encode("a"),
        tokenizer.encode("你")[0],
        *tokenizer.encode("🙂"),
        half_of_a_face,
    ]
    says(model, monkeypatch, tokens)
    stream = stream_chat(model, tokenizer, user("x"), max_new_tokens=len(tokens), **SCRIPTED)
    assert "".join(stream) == tokenizer.decode(tokens)
    assert stream.finish_reason == "length"


def test_an_end_of_turn_at_the_last_allowed_token_is_a_stop(loaded, monkeypatch):
    model, tokenizer = loaded
    says(model, monkeypatch, [*tokenizer.encode("a"), tokenizer.eos_token_id])
    stream = stream_chat(model, tokenizer, user("x"), max_new_tokens=2, **SCRIPTED)
    assert "".join(stream) == "a"
    assert stream.finish_reason == "stop"
    assert stream.new_tokens == 2


def test_an_answer_of_nothing(loaded, monkeypatch):
    model, tokenizer = loaded
    says(model, monkeypatch, [tokenizer.eos_token_id])
    stream = stream_chat(model, tokenizer, user("x"), **SCRIPTED)
    assert list(stream) == []
    assert stream.finish_reason == "stop"
    assert stream.new_tokens == 1


# Stopping. The scripted model waits where the test has something to do, so no clock is involved.


def long_stream(loaded, monkeypatch, before=None, **options):
    """A stream of 500 times the letter a; `before` is called before each token, see `says`."""
    model, tokenizer = loaded
    says(model, monkeypatch, tokenizer.encode("a") * 500, before)
    return stream_chat(model, tokenizer, user("x"), max_new_tokens=500, **SCRIPTED, **options)


@pytest.fixture
def held_stream(loaded, monkeypatch):
    """A stream that has said four letters and cannot go on before it is stopped."""
    stopped = threading.Event()

    def hold(number: int) -> None:
        if number == 4:
            assert stopped.wait(PATIENCE)

    stream = long_stream(loaded, monkeypatch, hold)
    stop = stream.stop

    def stop_and_let_go() -> None:
        stop()
        stopped.set()

    monkeypatch.setattr(stream, "stop", stop_and_let_go)
    yield stream
    stopped.set()


@pytest.mark.parametrize("own_event", [True, False])
def test_stop_from_another_thread(loaded, monkeypatch, own_event):
    event = threading.Event()

    def stop_at_the_tenth_token(number: int) -> None:
        if number == 9 and own_event:
            event.set()
        elif number == 9:
            stream.stop()

    stream = long_stream(loaded, monkeypatch, stop_at_the_tenth_token, stop=event)
    assert "".join(stream) == 10 * "a"  # the token that is being computed is still said
    assert stream.finish_reason == "stopped"
    assert stream.new_tokens == 10
    assert not generating()


def test_stopped_before_it_began(loaded):
    event = threading.Event()
    event.set()
    stream = stream_chat(*loaded, user("x"), stop=event)
    assert list(stream) == []
    assert stream.new_tokens == 0
    assert stream.finish_reason == "stopped"


def test_the_callers_event_is_never_set(loaded):
    event = threading.Event()
    for _ in stream_chat(*loaded, user("x"), max_new_tokens=5, stop=event, do_sample=False):
        break
    list(stream_chat(*loaded, user("x"), max_new_tokens=5, stop=event, do_sample=False))
    assert not event.is_set()


def test_leaving_the_loop_ends_the_thread(held_stream):
    for _ in held_stream:
        assert generating()
        break
    assert not generating()
    assert held_stream.finish_reason == "stopped"


def test_dropping_the_iterator_ends_the_thread(held_stream):
    pieces = iter(held_stream)
    next(pieces)
    assert generating()
    del pieces
    gc.collect()
    assert not generating()


def test_keyboard_interrupt_ends_the_thread(loaded, monkeypatch):
    main_thread = threading.main_thread().ident

    def interrupt_at_the_tenth_token(number: int) -> None:
        if number == 9:
            signal.pthread_kill(main_thread, signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        list(long_stream(loaded, monkeypatch, interrupt_at_the_tenth_token))
    assert not generating()


# Errors.


@pytest.mark.parametrize("after", [0, 5])
def test_an_error_while_generating_is_raised_in_the_loop(loaded, monkeypatch, after):
    def fail(number: int) -> None:
        if number == after:
            raise MemoryError("out of memory")

    stream = long_stream(loaded, monkeypatch, fail)
    with pytest.raises(MemoryError, match="out of memory"):
        list(stream)
    assert stream.new_tokens == after
    assert not generating()


def test_an_option_that_generate_does_not_know_is_one_sentence(loaded):
    with pytest.raises(CourseError, match="nonsense"):
        list(stream_chat(*loaded, user("x"), nonsense=3))


def test_a_stream_is_read_once(loaded):
    stream = stream_chat(*loaded, user("x"), max_new_tokens=2)
    list(stream)
    with pytest.raises(RuntimeError, match="once"):
        list(stream)


@pytest.mark.parametrize(("text", "new"), [("x", 0), ("x", -3), ("word " * 600, 5)])
def test_no_room_for_an_answer_is_one_sentence(loaded, text, new):
    with pytest.raises(CourseError, match=r"of 600 tokens"):
        stream_chat(*loaded, user(text), max_new_tokens=new)


def test_the_answer_ends_where_the_context_ends(loaded):
    length = encode_chat(loaded[1], user(""))["input_ids"].shape[1]
    text = "a " * ((590 - length) // 2)
    stream = stream_chat(*loaded, user(text), max_new_tokens=512, eos_token_id=-1)
    list(stream)
    assert stream.prompt_tokens + stream.new_tokens == 600
    assert stream.finish_reason == "length"
