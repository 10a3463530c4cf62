"""Checks of the exercises of notebook 05."""

import html
import math
from collections.abc import Callable

from helpers.exercises.stop_button import Trial, WatchedButton, recorded_thread_errors
from helpers.exercises.verdict import WrongAnswerError, verdict
from helpers.language import say

# --- exercise 1: a Stop button ---


def expect_stopped(trial: Trial, again: bool) -> None:
    """Press Stop while the third piece is being computed, and see whether the loop ends."""
    trial.begin()
    trial.wait_for_shown(2)
    trial.press_stop()
    trial.let_all_go()
    if len(trial.shown) <= 3:
        return
    if again:
        raise WrongAnswerError(
            say(
                "Stop works once, and the next answer ignores it. Which flag does the button set the second "
                "time, and which one does the loop read?"
            )
        )
    raise WrongAnswerError(
        say(
            "Stop was pressed during the third piece, and your loop read all the others too. Who looks at "
            "the flag?"
        )
    )


def expect_complete(trial: Trial, reason: str) -> None:
    """Nobody presses Stop: everything is to be shown."""
    trial.begin()
    trial.let_all_go()
    if len(trial.shown) < len(trial.pieces.texts):
        raise WrongAnswerError(reason)


@verdict
def check_stop_button(start: Callable) -> str:
    """Whether `start(pieces, show, stop_button)` shows a growing text in a thread until Stop is pressed."""
    if not callable(start):
        raise WrongAnswerError(say("define a function `start` and hand over its name, without brackets."))
    button = WatchedButton()
    with recorded_thread_errors() as errors:
        expect_stopped(Trial(start, button, errors), again=False)
        expect_complete(
            Trial(start, button, errors),
            say(
                "the first answer was stopped, and the next one ended at once, though nobody pressed Stop "
                "again. What state is the flag still in?"
            ),
        )
        button.press()
        expect_complete(
            Trial(start, button, errors),
            say(
                "Stop was pressed while no answer was being written, and the next answer ended at once. When "
                "has the flag to be down?"
            ),
        )
        expect_stopped(Trial(start, button, errors), again=True)
    return say("it returns at once, stops after the piece in hand, and works again as often as you like.")


# --- exercise 2: bold text that is safe ---

HOSTILE = "<img src=x onerror=alert(1)>"


@verdict
def check_bold(bold: Callable) -> str:
    """Whether `bold(text)` is HTML with every `**word**` in bold, and everything else as it was typed."""
    if not callable(bold):
        raise WrongAnswerError(say("define a function and hand over its name, without brackets."))
    plain = bold("no stars")
    if plain is None or plain is ...:
        raise WrongAnswerError(say("your function returns nothing yet."))
    if plain != "no stars":
        raise WrongAnswerError(
            say("a text without stars is to stay as it is, and it became {plain!r}.", plain=plain)
        )
    hostile = bold(HOSTILE)
    if "<img" in hostile:
        raise WrongAnswerError(say("a tag that somebody typed comes through, and the browser would run it."))
    if hostile != html.escape(HOSTILE):
        raise WrongAnswerError(
            say("a tag that was typed is to be readable in the page: {hostile!r} is not.", hostile=hostile)
        )
    one = bold("a **b** c")
    if html.escape("<b>") in one:
        raise WrongAnswerError(say("your own <b> is escaped as well: which of the two steps comes first?"))
    if one != "a <b>b</b> c":
        raise WrongAnswerError(say("'a **b** c' became {one!r}.", one=one))
    two = bold("**a** or **b**")
    if two != "<b>a</b> or <b>b</b>":
        raise WrongAnswerError(
            say("with two bold words in a line it becomes {two!r}. Where does the first one end?", two=two)
        )
    inside = bold(f"**{HOSTILE}**")
    if "<img" in inside or inside != f"<b>{html.escape(HOSTILE)}</b>":
        raise WrongAnswerError(say("a tag between the stars becomes {inside!r}.", inside=inside))
    return say("typed tags can do nothing, and the only tags in the page are your own.")


# --- exercise 3: top-p by hand ---

# Not sorted, no two alike, and no sum of them lands on a limit.
SHARES = (0.08, 0.45, 0.02, 0.30, 0.15)
LIMITS = (0.12, 0.70, 0.80, 0.99)


def kept_by_top_p(shares: tuple[float, ...], p: float) -> list[int]:
    """The positions that top-p keeps, from the largest down: those before which less than p was kept."""
    order = sorted(range(len(shares)), key=lambda position: -shares[position])
    kept = []
    total = 0.0
    for position in order:
        if total >= p:
            break
        kept.append(position)
        total += shares[position]
    return kept


def explain_kept(answer: list[int], right: list[int], p: float) -> str:
    """What is wrong with `answer`, the positions that were kept."""
    in_order = []
    total = 0.0
    for position, share in enumerate(SHARES):
        if total < p:
            in_order.append(position)
        total += share
    if sorted(answer) == in_order:
        return say("you went through the tokens as they stand in the list. Top-p begins with the likeliest.")
    if sorted(answer) == sorted(right[:-1]):
        return say(
            "with p = {p} you keep {count}, which together have less than p. Does the token that reaches "
            "p belong to it?",
            p=p,
            count=len(answer),
        )
    if sorted(answer) == [position for position, share in enumerate(SHARES) if share >= p]:
        return say("you compare each probability with p. Top-p compares their sum.")
    if len(answer) == len(right) + 1:
        return say("with p = {p} you keep one token too many. When do the kept ones reach p?", p=p)
    return say(
        "with p = {p} your function keeps {count} tokens, and that is not right.", p=p, count=len(answer)
    )


def explain_shares(answer: list[float], right: list[float], p: float) -> str:
    """What is wrong with probabilities whose zeros stand where they should."""
    plain = []
    for share, wanted in zip(SHARES, right, strict=True):
        plain.append(share * math.ceil(wanted))
    if all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(answer, plain, strict=True)):
        return say(
            "with p = {p} the right tokens are kept, but together they have {together:.2f}, not 1.",
            p=p,
            together=sum(answer),
        )
    return say(
        "with p = {p} the right tokens are kept, but their shares have changed against each other.", p=p
    )


def read_shares(top_p: Callable, p: float) -> list[float]:
    """What the function makes of `SHARES`; WrongAnswerError if that is no list of the same length."""
    given = list(SHARES)
    answer = top_p(given, p)
    if answer is None or answer is ...:
        raise WrongAnswerError(say("your function returns nothing yet."))
    answer = [float(share) for share in answer]
    if given != list(SHARES):
        raise WrongAnswerError(say("your function changes the list that it is given. Work on a new one."))
    if len(answer) != len(SHARES):
        raise WrongAnswerError(
            say(
                "{before} probabilities went in and {count} came out. What is cut gets a zero and keeps its "
                "place.",
                before=len(SHARES),
                count=len(answer),
            )
        )
    return answer


@verdict
def check_top_p(top_p: Callable) -> str:
    """Whether `top_p(probabilities, p)` is the list of probabilities after the cut, in the old order."""
    if not callable(top_p):
        raise WrongAnswerError(say("define a function and hand over its name, without brackets."))
    for p in LIMITS:
        answer = read_shares(top_p, p)
        right = kept_by_top_p(SHARES, p)
        kept = [position for position, share in enumerate(answer) if share > 0]
        if kept != sorted(right):
            raise WrongAnswerError(explain_kept(kept, right, p))
        total = sum(SHARES[position] for position in right)
        wanted = [0.0] * len(SHARES)
        for position in right:
            wanted[position] = SHARES[position] / total
        if not all(math.isclose(a, b, abs_tol=1e-4) for a, b in zip(answer, wanted, strict=True)):
            raise WrongAnswerError(explain_shares(answer, wanted, p))
    return say("the likeliest tokens up to p share the whole probability, and the rest can never be drawn.")


# --- exercise 4: a conversation that still fits ---


def count_words(messages: list[dict[str, str]]) -> int:
    """Stands in for a tokenizer: one token a word."""
    return sum(len(message["content"].split()) for message in messages)


def conversation_of(turns: int) -> list[dict[str, str]]:
    """A system prompt of 4 words, turns of 3 + 5 words, and a last question of 3."""
    messages = [{"role": "system", "content": "You answer every question."}]
    for number in range(turns):
        messages.append({"role": "user", "content": f"Question number {number}"})
        messages.append({"role": "assistant", "content": f"The answer to question {number}"})
    messages.append({"role": "user", "content": f"Question number {turns}"})
    return messages


def explain_shortened(answer: list, messages: list, limit: int) -> str:
    """What is wrong with `answer`, which is not the longest end of `messages` that fits."""
    if not answer or answer[0] != messages[0]:
        return say("the system prompt is gone. It stands first and counts for every answer.")
    if answer[-1] != messages[-1]:
        return say("the last question is gone, and it is the one to be answered.")
    if any(message not in messages for message in answer):
        return say("a message was changed. Leave whole messages out.")
    if count_words(answer) > limit:
        return say(
            "{count} tokens are left, and the limit is {limit}.", count=count_words(answer), limit=limit
        )
    if len(answer) % 2:
        return say(
            "an answer without its question is left, or a question without its answer. Leave out both."
        )
    if answer[1:] != messages[-len(answer) + 1 :]:
        return say("turns from the end or from the middle are gone. Which ones matter least?")
    return say(
        "too much is gone: {count} tokens are left, and more would fit below {limit}.",
        count=count_words(answer),
        limit=limit,
    )


@verdict
def check_shorten(shorten: Callable) -> str:
    """Whether `shorten(messages, count, limit)` leaves out the oldest turns, and no more than it must."""
    if not callable(shorten):
        raise WrongAnswerError(say("define a function `shorten` and hand over its name, without brackets."))
    for turns, limit in ((3, 31), (3, 30), (3, 16), (3, 7), (0, 7)):
        messages = conversation_of(turns)
        right = messages
        while count_words(right) > limit:
            right = [right[0], *right[3:]]
        given = list(messages)
        answer = shorten(given, count_words, limit)
        if answer is None or answer is ...:
            raise WrongAnswerError(say("your function returns nothing yet."))
        if given != messages:
            raise WrongAnswerError(
                say("your function changes the list of the chat itself. Work on a new one.")
            )
        answer = list(answer)
        if answer != right:
            raise WrongAnswerError(explain_shortened(answer, messages, limit))
    return say("what is left fits, nothing more had to go, and the chat itself keeps everything.")
