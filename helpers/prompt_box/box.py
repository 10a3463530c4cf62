"""A chat with the model inside the notebook: `PromptBox(model, tokenizer)` as the last line of a cell."""

import traceback
from functools import partial
from pathlib import Path

import torch

from helpers.inference import repair_text
from helpers.language import in_its_language, language, say, to_say
from helpers.prompt_box.answer import Answer
from helpers.prompt_box.conversation import Conversation, Message, save
from helpers.prompt_box.errors import explain
from helpers.prompt_box.text_area import Reply
from helpers.prompt_box.view import View
from helpers.prompt_box.worker import Worker

SYSTEM = "You are a helpful assistant."  # the model's own default, also in a Chinese box
CLOSED = to_say("This box is closed: run its cell again for a new one.")
STOPPING = to_say("Stopping after the token that is being computed.")


def ignore(taken: bool) -> None:
    """The reply to Regenerate, whose question is not in the text area."""


class ShortNames:
    """The controls of a box under the names that code uses, as in `box.send_button.click()`."""

    def __init__(self, view: View):
        self.entry = view.text_area.widget
        self.system = view.system
        self.new_tokens = view.new_tokens
        self.temperature = view.temperature
        self.top_p = view.top_p
        self.send_button = view.send_button
        self.stop_button = view.stop_button
        self.again_button = view.again_button
        self.clear_button = view.clear_button
        self.save_button = view.save_button


class PromptBox(ShortNames):
    """Chat with `model`, starting from the system prompt `system`. A second box closes the first.

    Conversations are saved in `folder`; `show_routing` shows under each answer the experts of its tokens. The
    sliders start at the model's own generation settings; temperature 0 always takes the likeliest token. The
    box keeps the language that the course speaks when it is built.
    In code: `box.entry.value = "Hello"; box.send_button.click(); box.wait(); box.messages`.
    """

    newest: "PromptBox | None" = None

    def __init__(self, model, tokenizer, system=SYSTEM, folder=".", show_routing=False):
        if PromptBox.newest:
            PromptBox.newest.close()
        PromptBox.newest = self
        self.model = model  # None once the box is closed
        self.tokenizer = tokenizer
        self.folder = Path(folder)
        self.show_routing = show_routing
        self.language = language()
        self.newest_answer: Answer | None = None
        self.conversation = Conversation(system)
        self.worker = Worker()
        self.view = View(system, model.generation_config, model.config.max_position_embeddings)
        super().__init__(self.view)
        self._connect()
        self._show_state(busy=False)

    def _connect(self) -> None:
        """Give the buttons and the Enter key their work."""
        view = self.view
        view.send_button.on_click(lambda button: self._send())
        view.stop_button.on_click(lambda button: self._stop())
        view.again_button.on_click(lambda button: self._send_again())
        view.clear_button.on_click(lambda button: self._clear())
        view.save_button.on_click(lambda button: self._save())
        view.text_area.on_send(self._start)

    def _repr_mimebundle_(self, **_) -> dict:
        return self.view.mimebundle()

    @property
    def messages(self) -> list[Message]:
        """What was said: the system prompt, then question and answer in turns."""
        return self.conversation.messages

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the answer; False after `timeout` seconds. Interrupting the kernel stops it."""
        return self.worker.wait(timeout)

    @in_its_language
    def close(self) -> None:
        """Stop, and let go of the model so that its memory can be freed. What was said stays readable."""
        self.worker.stop.set()
        self.wait(timeout=10)
        self.model = None
        self.conversation.prefix.forget()
        self._show_state(busy=False, sentence=say(CLOSED))

    # What the buttons and the Enter key do. Each of these returns at once.

    def _send(self) -> None:
        self._start(self.entry.value, reply=self.view.text_area.answer_click)

    def _send_again(self) -> None:
        self._start(self.conversation.question, again=True)

    def _start(self, text: str, reply: Reply = ignore, again: bool = False) -> None:
        """Let a thread answer `text`, unless it is empty or another answer is being written.

        `reply(True)` is called when it has become a question, `reply(False)` when it was refused.
        """
        question = repair_text(text.strip())
        started = False
        if question and self.model is not None:
            answer = Answer(self.model, self.tokenizer, self.conversation, self.view, self.worker.stop)
            work_in_language = in_its_language(PromptBox._work)  # a thread knows nothing of this one's
            work = partial(work_in_language, self, answer, question, reply, again)
            started = self.worker.start(work, before=partial(self._show_state, busy=True))
            if started:
                self.newest_answer = answer
        if not started:
            reply(False)

    @in_its_language
    def _stop(self) -> None:
        self.worker.stop.set()
        self.view.show_notice(say(STOPPING))

    def _clear(self) -> None:
        if self.worker.busy:
            return  # a click that came too late for the disabled button
        self.conversation.clear()
        self.view.clear()

    @in_its_language
    def _save(self) -> None:
        self.view.show_notice(save(self.conversation, self.folder))

    def _work(self, answer: Answer, question: str, reply: Reply, again: bool) -> None:
        """Whatever happens, the box works again afterwards."""
        try:
            ending = answer.write(question, again, self.show_routing, on_asked=partial(reply, True))
        except Exception as error:  # nobody would see the traceback of a thread
            ending = explain(error, answer.has_begun)
            traceback.clear_frames(error.__traceback__)  # they hold on to tensors
            torch.cuda.empty_cache()
            if not answer.was_asked:
                reply(False)
        self._show_state(busy=False, sentence=ending)
        self.view.repeat_later()

    def _show_state(self, busy: bool, sentence: str = "") -> None:
        self.view.show_notice(sentence)  # first: who sees the buttons change can read why
        self.view.set_buttons(can_send=not busy and self.model is not None, can_stop=busy)
