"""The checks of notebook 05: right answers, and for each typical mistake the reason that it gets."""

import html
import itertools
import re
import threading

import pytest
from answers import assert_right, assert_wrong

from helpers.exercises import stop_button
from helpers.exercises.prompt_box import (
    HOSTILE,
    LIMITS,
    SHARES,
    check_bold,
    check_shorten,
    check_stop_button,
    check_top_p,
    conversation_of,
    count_words,
    kept_by_top_p,
)


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    """Only wrong answers are waited for, and these tests hand in many."""
    monkeypatch.setattr(stop_button, "PATIENCE", 3)


@pytest.mark.parametrize("check", [check_stop_button, check_bold, check_top_p, check_shorten])
def test_empty_starters(check, capsys):
    def empty(*arguments): ...

    assert_wrong(check(...), "put your answer into this cell", capsys)
    assert_wrong(check(empty), "", capsys)
    assert_wrong(check(7), "define a function", capsys)


# Exercise 1: each function is a learner's `start`.


def a_new_flag_each_time(pieces, show, button):
    stop = threading.Event()
    button.on_click(lambda _: stop.set())

    def work():
        text = ""
        for piece in pieces:
            if stop.is_set():
                break
            text += piece
            show(text)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def read_until(stop, pieces, show):
    """The loop of the answers below."""
    text = ""
    for piece in pieces:
        text += piece
        show(text)
        if stop.is_set():
            break


def in_a_thread(work, *arguments):
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    return thread


def make_one_flag_that_is_cleared():
    stop = threading.Event()

    def start(pieces, show, button):
        stop.clear()
        button.on_click(lambda _: stop.set())
        return in_a_thread(read_until, stop, pieces, show)

    return start


def make_a_plain_variable():
    def start(pieces, show, button):
        state = {"stopped": False}
        button.on_click(lambda _: state.update(stopped=True))

        def work():
            text = ""
            for piece in pieces:
                if state["stopped"]:
                    return
                text += piece
                show(text)

        return in_a_thread(work)

    return start


RIGHT_STARTS = [lambda: a_new_flag_each_time, make_one_flag_that_is_cleared, make_a_plain_variable]


@pytest.mark.parametrize("make", RIGHT_STARTS, ids=["new flag", "cleared flag", "no event"])
def test_a_stop_button_that_works(make, capsys):
    assert check_stop_button(make())
    assert capsys.readouterr().out.startswith("Right: it returns at once")


def never_checks(pieces, show, button):
    stop = threading.Event()
    button.on_click(lambda _: stop.set())
    return in_a_thread(read_until, threading.Event(), pieces, show)


def on_the_main_thread(pieces, show, button):
    stop = threading.Event()
    button.on_click(lambda _: stop.set())
    read_until(stop, pieces, show)
    return threading.current_thread()


def calls_the_work(pieces, show, button):
    stop = threading.Event()
    button.on_click(lambda _: stop.set())
    thread = threading.Thread(target=read_until(stop, pieces, show))
    thread.start()
    return thread


def joins(pieces, show, button):
    thread = a_new_flag_each_time(pieces, show, button)
    thread.join()
    return thread


def returns_nothing(pieces, show, button):
    a_new_flag_each_time(pieces, show, button)


def never_starts(pieces, show, button):
    return threading.Thread(target=read_until, args=(threading.Event(), pieces, show))


def make_never_cleared():
    stop = threading.Event()

    def start(pieces, show, button):
        button.on_click(lambda _: stop.set())
        return in_a_thread(read_until, stop, pieces, show)

    return start


def make_cleared_at_the_end():
    """A Stop between two answers is remembered for the next one."""
    stop = threading.Event()

    def start(pieces, show, button):
        button.on_click(lambda _: stop.set())

        def work():
            read_until(stop, pieces, show)
            stop.clear()

        return in_a_thread(work)

    return start


def make_connected_once():
    """The button sets the flag of the first answer for ever."""
    calls = itertools.count()

    def start(pieces, show, button):
        stop = threading.Event()
        if next(calls) == 0:
            button.on_click(lambda _: stop.set())
        return in_a_thread(read_until, stop, pieces, show)

    return start


def passes_the_method(pieces, show, button):
    stop = threading.Event()
    button.on_click(stop.set)
    return in_a_thread(read_until, stop, pieces, show)


def calls_nothing(pieces, show, button):
    return in_a_thread(read_until, threading.Event(), pieces, show)


def stopped_from_the_beginning(pieces, show, button):
    stop = threading.Event()
    stop.set()
    button.on_click(lambda _: stop.set())

    def work():
        for piece in pieces:
            if stop.is_set():
                break
            show(piece)

    return in_a_thread(work)


def shows_pieces(pieces, show, button):
    return in_a_thread(lambda: [show(piece) for piece in pieces])


def shows_at_the_end(pieces, show, button):
    return in_a_thread(lambda: show("".join(pieces)))


def breaks(pieces, show, button):
    return in_a_thread(lambda: show(next(pieces) + 1))


def raises(pieces, show, button):
    raise NameError("name 'threding' is not defined")


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (never_checks, "Who looks at the flag?"),
        (on_the_main_thread, "`start` reads the pieces itself"),
        (calls_the_work, "`start` reads the pieces itself"),
        (joins, "`start` waits for its thread"),
        (returns_nothing, "return the thread that it has started, not NoneType"),
        (never_starts, "made and not started"),
        (make_never_cleared(), "though nobody pressed Stop again"),
        (make_cleared_at_the_end(), "while no answer was being written"),
        (make_connected_once(), "Stop works once"),
        (passes_the_method, "a click on Stop ended with TypeError"),
        (calls_nothing, "a click on Stop calls nothing"),
        (stopped_from_the_beginning, "before it has shown a piece"),
        (shows_pieces, "Show the whole text so far"),
        (shows_at_the_end, "call `show` inside the loop"),
        (breaks, "your thread ended with TypeError"),
        (raises, "NameError: name 'threding' is not defined"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_stop_buttons_that_do_not_work(start, reason, capsys):
    before = set(threading.enumerate())
    assert_wrong(check_stop_button(start), reason, capsys)
    for thread in set(threading.enumerate()) - before:
        thread.join(60)  # a safety net: it ends at once
        assert not thread.is_alive(), "no thread is left behind"


# Exercise 2

STARS = re.compile(r"\*\*(.+?)\*\*")


def right_bold(text):
    return STARS.sub(r"<b>\1</b>", html.escape(text))


def test_bold(capsys):
    assert check_bold(right_bold)
    assert capsys.readouterr().out.startswith("Right: typed tags can do nothing")


def bold_and_then_escape(text):
    return html.escape(STARS.sub(r"<b>\1</b>", text))


def bold_without_escape(text):
    return STARS.sub(r"<b>\1</b>", text)


def greedy_bold(text):
    return re.sub(r"\*\*(.+)\*\*", r"<b>\1</b>", html.escape(text))


def bold_by_replacing(text):
    return html.escape(text).replace("**", "<b>")


def bold_without_tags(text):
    return right_bold(re.sub(r"<[^>]*>", "", text))


def bold_of_words(text):
    return re.sub(r"\*\*(\w+)\*\*", r"<b>\1</b>", html.escape(text))


@pytest.mark.parametrize(
    ("bold", "reason"),
    [
        (bold_and_then_escape, "which of the two steps comes first"),
        (bold_without_escape, "a tag that somebody typed comes through"),
        (greedy_bold, "Where does the first one end"),
        (bold_by_replacing, "'a **b** c' became"),
        (bold_without_tags, "is to be readable in the page"),
        (bold_of_words, "a tag between the stars becomes"),
        (lambda text: f"<p>{text}</p>", "is to stay as it is"),
        (lambda text: None, "returns nothing yet"),
        (lambda text: text + 1, "cannot be checked (TypeError"),
    ],
)
def test_wrong_bold(bold, reason, capsys):
    assert_wrong(check_bold(bold), reason, capsys)


def test_the_hostile_text_is_hostile():
    assert "<img" in HOSTILE and "onerror" in HOSTILE


# Exercise 3


def top_p_of(shares, positions):
    """The probabilities after a cut that keeps these positions."""
    total = sum(shares[position] for position in positions)
    cut = [0.0] * len(shares)
    for position in positions:
        cut[position] = shares[position] / total
    return cut


def right_top_p(shares, p):
    return top_p_of(shares, kept_by_top_p(shares, p))


def test_top_p(capsys):
    assert check_top_p(right_top_p)
    assert capsys.readouterr().out.startswith("Right: the likeliest tokens")


def test_top_p_of_a_tensor(capsys):
    import torch  # imported late: takes seconds, and only this test needs it

    assert check_top_p(lambda shares, p: torch.tensor(right_top_p(shares, p)))


def test_it_keeps_what_transformers_keeps():
    import torch  # imported late: both take seconds, and only this test needs them
    from transformers import TopPLogitsWarper  # imported late: takes seconds

    scores = torch.tensor([SHARES]).log()
    for p in LIMITS:
        kept = TopPLogitsWarper(p)(None, scores)[0].isfinite().nonzero().flatten().tolist()
        assert kept == sorted(kept_by_top_p(SHARES, p))


def one_too_few(shares, p):
    kept = kept_by_top_p(shares, p)
    return top_p_of(shares, kept[:-1] or kept)


def one_too_many(shares, p):
    order = sorted(range(len(shares)), key=lambda position: -shares[position])
    return top_p_of(shares, order[: len(kept_by_top_p(shares, p)) + 1])


def in_order_of_the_list(shares, p):
    kept = []
    for position in range(len(shares)):
        if sum(shares[other] for other in kept) < p:
            kept.append(position)
    return top_p_of(shares, kept)


def not_scaled(shares, p):
    kept = kept_by_top_p(shares, p)
    return [share * (position in kept) for position, share in enumerate(shares)]


def sorted_list(shares, p):
    return sorted(right_top_p(shares, p), reverse=True)


def only_the_kept(shares, p):
    return [share for share in right_top_p(shares, p) if share]


def each_with_p(shares, p):
    return [share if share >= p else 0.0 for share in shares]


def levelled(shares, p):
    kept = kept_by_top_p(shares, p)
    return [(position in kept) / len(kept) for position in range(len(shares))]


def changes_the_list(shares, p):
    shares.sort()
    return shares


@pytest.mark.parametrize(
    ("top_p", "reason"),
    [
        (one_too_few, "Does the token that reaches p belong to it"),
        (one_too_many, "one token too many"),
        (in_order_of_the_list, "Top-p begins with the likeliest"),
        (not_scaled, "together they have 0.45, not 1"),
        (sorted_list, "that is not right"),
        (only_the_kept, "keeps its place"),
        (each_with_p, "Top-p compares their sum"),
        (levelled, "changed against each other"),
        (changes_the_list, "Work on a new one"),
        (lambda shares, p: None, "returns nothing yet"),
        (lambda shares, p: 0.8, "cannot be checked"),
    ],
)
def test_wrong_top_p(top_p, reason, capsys):
    assert_wrong(check_top_p(top_p), reason, capsys)


# Exercise 4


def right_shorten(messages, count, limit):
    kept = list(messages)
    while count(kept) > limit:
        del kept[1:3]
    return kept


def test_shorten(capsys):
    secrets = ["system", "oldest", "newest"]
    assert_right(check_shorten(right_shorten), "what is left fits", capsys, secrets)


def test_the_sizes_of_the_conversation():
    assert [count_words(conversation_of(turns)) for turns in (0, 1, 3)] == [7, 15, 31]


def without_system_prompt(messages, count, limit):
    kept = list(messages)
    while count(kept) > limit:
        del kept[0:2]
    return kept


def one_message_at_a_time(messages, count, limit):
    kept = list(messages)
    while count(kept) > limit:
        del kept[1]
    return kept


def from_the_end(messages, count, limit):
    kept = list(messages)
    while count(kept) > limit and len(kept) > 2:
        del kept[-3:-1]
    return kept


def without_the_question(messages, count, limit):
    kept = list(messages)
    while count(kept) > limit:
        del kept[-2:]
    return kept


def in_place(messages, count, limit):
    while count(messages) > limit:
        del messages[1:3]
    return messages


def only_the_question(messages, count, limit):
    if count(messages) <= limit:
        return messages
    return [messages[0], messages[-1]]


def strict_limit(messages, count, limit):
    kept = list(messages)
    while count(kept) >= limit and len(kept) > 2:
        del kept[1:3]
    return kept


@pytest.mark.parametrize(
    ("shorten", "reason"),
    [
        (without_system_prompt, "the system prompt is gone"),
        (one_message_at_a_time, "an answer without its question"),
        (from_the_end, "Which ones matter least"),
        (without_the_question, "the last question is gone"),
        (in_place, "changes the list of the chat itself"),
        (only_the_question, "too much is gone"),
        (strict_limit, "too much is gone"),
        (lambda messages, count, limit: messages, "tokens are left, and the limit is 30"),
        (lambda messages, count, limit: [], "the system prompt is gone"),
        (lambda messages, count, limit: None, "returns nothing yet"),
        (lambda messages, count, limit: messages[99], "cannot be checked (IndexError"),
    ],
)
def test_wrong_shorten(shorten, reason, capsys):
    assert_wrong(check_shorten(shorten), reason, capsys)
