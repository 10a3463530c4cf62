"""Ask a server, one question at a time or from many clients at once, and time what comes.

Two things are checked before a request is sent, because `transformers serve` checks neither: whether it fits
into the model's context (the server would answer nonsense, with status 200), and whether a control token is
typed in it (the server would take it for one of its own, see notebook 04).
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from helpers import CourseError
from helpers.inference import encode_chat
from helpers.inference.chat import any_of, control_tokens
from helpers.inference.messages import Message, check_messages
from helpers.language import say
from helpers.speed.arguments import check_list, check_whole
from helpers.speed.measuring import nearest_rank
from helpers.speed.serving import Server

TIMEOUT = 600  # seconds without a sign of the server
ASK_LENGTH = 64  # new tokens
NOTICE = 3  # seconds in which a broken connection is found to be a server that has ended


class Answer(NamedTuple):
    """What a server answered, and when, in seconds after the request was sent."""

    text: str
    finish_reason: str
    prompt_tokens: int
    new_tokens: int
    first_text: float
    seconds: float


@dataclass(frozen=True)
class Load:
    """What a server did for several clients at once."""

    clients: int
    answers: tuple[Answer, ...]
    """In the order of the questions."""
    seconds: float
    """From the first request to the last answer."""

    @property
    def tokens_per_second(self) -> float:
        """New tokens of all answers together, for each second."""
        return sum(answer.new_tokens for answer in self.answers) / self.seconds

    def first_text(self, percent: float = 50) -> float:
        """Seconds within which so many percent of the clients saw the first text."""
        return nearest_rank(sorted(answer.first_text for answer in self.answers), percent)


def ask(
    server: Server,
    question: str | Sequence[Message],
    *,
    max_new_tokens: int = ASK_LENGTH,
    model: str | None = None,
    stop: threading.Event | None = None,
    show: bool = False,
) -> Answer:
    """Ask the server and return its greedy answer; `show` prints it while it is written.

    `question`: a text, or a conversation as for `stream_chat`. `model`: None for the one it serves.
    `stop`: ends the answer when it is set. CourseError when the request does not fit into the model's
    context, holds a control token, or the server refuses it, has ended, or answers nothing.
    """
    messages = question
    if isinstance(question, str):
        messages = [{"role": "user", "content": question}]
    prompt_tokens = check_request(server, messages, max_new_tokens)
    import openai  # imported late: it takes a second, and is only needed here

    request = {
        "model": model or server.model,
        "messages": list(messages),
        "max_tokens": max_new_tokens,
        "temperature": 0,  # greedy
        "stream": True,
        "stream_options": {"include_usage": True},
        "timeout": TIMEOUT,
    }
    try:
        return read_answer(server, request, prompt_tokens, stop or threading.Event(), show)
    except openai.OpenAIError as error:
        raise refused_by_server(server, error, request["model"]) from error


def read_answer(server: Server, request: dict, prompt_tokens: int, stop: threading.Event, show: bool):
    """Send the request, and put the answer together from the pieces that the server streams."""
    start = time.perf_counter()
    pieces: list[str] = []
    first_text = None
    finish_reason = "stopped"  # until the server says why
    new_tokens = 0
    with server.client.chat.completions.create(**request) as stream:
        for chunk in stream:
            if stop.is_set():
                break
            if chunk.usage:
                new_tokens = chunk.usage.completion_tokens
            for choice in chunk.choices:  # one, or none in the last chunk of some servers
                finish_reason = choice.finish_reason or finish_reason
                piece = choice.delta.content or ""
                if piece and first_text is None:
                    first_text = time.perf_counter() - start
                pieces.append(piece)
                if show:
                    print(piece, end="", flush=True)
    seconds = time.perf_counter() - start
    if show:
        print()
    if first_text is None:  # the model ended its turn at once
        first_text = seconds
    return Answer("".join(pieces), finish_reason, prompt_tokens, new_tokens, first_text, seconds)


def check_request(server: Server, messages: Sequence[Message], max_new_tokens: int) -> int:
    """The tokens of a conversation, if the server can be asked with it.

    CourseError when prompt and answer do not fit into the context, and when a control token is typed.
    """
    check_whole("max_new_tokens", max_new_tokens, least=1)
    control = any_of(control_tokens(server.tokenizer))
    if any(control.search(message["content"]) for message in check_messages(messages)):
        raise CourseError(
            say(
                "A control token of the model, such as <|im_end|>, is typed in this conversation, and the "
                "server would obey it: leave it out."
            )
        )
    ids = encode_chat(server.tokenizer, messages)["input_ids"][0]  # (tokens,)
    wanted = len(ids) + max_new_tokens
    if server.context is not None and wanted > server.context:
        raise CourseError(
            say(
                "The conversation has {prompt:,} tokens and {new:,} new ones are wanted, but the model was "
                "made for {context:,} together: shorten it, or ask for fewer, at least one.",
                prompt=len(ids),
                new=max_new_tokens,
                context=server.context,
            )
        )
    return len(ids)


def refused_by_server(server: Server, error: Exception, model: str) -> CourseError:
    """What went wrong with a request, in one sentence."""
    import openai  # imported late: it takes a second, and is only needed here

    if isinstance(error, openai.APIConnectionError):
        server.child.wait(NOTICE)  # a server that was killed just now is gone in a moment
    if server.child.exit_status is not None:
        return CourseError(
            say(
                "The server has ended (exit status {status}): start it again.",
                status=server.child.exit_status,
            )
        )
    if isinstance(error, openai.APITimeoutError):
        return CourseError(
            say("The server gave no sign for {seconds} s: stop it and start it again.", seconds=TIMEOUT)
        )
    if isinstance(error, openai.APIConnectionError):
        return CourseError(say("The server does not answer: stop it and start it again."))
    if model != server.model and isinstance(error, openai.BadRequestError | openai.NotFoundError):
        return CourseError(
            say(
                "The server has no model {model}: it serves one, whose name is server.model.",
                model=model,
            )
        )
    return CourseError(say("The server refuses the request ({words}).", words=words_of(error)))


def words_of(error: Exception) -> str:
    """What a server says of an error. Each kind of server puts its words into another place."""
    words = getattr(error, "body", None) or str(error)
    if isinstance(words, dict):
        words = words.get("message") or words.get("detail") or words
    return " ".join(str(words).split()).rstrip(".")


def ask_together(
    server: Server, questions: Sequence[str], clients: int, *, max_new_tokens: int = ASK_LENGTH
) -> Load:
    """Let so many clients ask the questions, each client the next one as soon as it has its answer.

    CourseError as `ask`, and without a question or a client.
    """
    check_list("questions", questions, example="['What is a token?']")
    check_whole("clients", clients, least=1)
    check_request(server, [{"role": "user", "content": questions[0]}], max_new_tokens)  # loads the tokenizer
    stop = threading.Event()

    def one(question: str) -> Answer:
        return ask(server, question, max_new_tokens=max_new_tokens, stop=stop)

    pool = ThreadPoolExecutor(clients)
    start = time.perf_counter()
    try:
        answers = tuple(pool.map(one, questions))
    finally:
        stop.set()  # after an error or an interrupt, the others need not finish
        pool.shutdown(cancel_futures=True)
    return Load(clients, answers, time.perf_counter() - start)
