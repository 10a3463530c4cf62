"""The prompt box without a browser or a kernel: every state, every failure. Buttons are pressed in Python."""

import json
import threading
import time
from types import SimpleNamespace

import pytest
from fake_chat import Prefill, ask, bubbles, finish, notice, send, status, until

from helpers import CourseError
from helpers.prompt_box import NOTE
from helpers.prompt_box import answer as answer_module
from helpers.prompt_box import view as view_module

# The normal course of a conversation.


def test_send_shows_question_and_answer(make_box):
    box = make_box(["Hel", "lo"])
    ask(box, " Hi ")
    assert bubbles(box) == [("Hi", "Hello")]
    assert box.entry.value == ""
    assert notice(box) == ""
    assert box.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]


def test_history_reaches_the_model(make_box):
    box = make_box(["one"], ["two"])
    ask(box, "first")
    ask(box, "second")
    assert box.model.prompt_texts(1) == ["Be brief.", "first", "one", "second"]


def test_status_line(make_box):
    box = make_box(["a", "b"])
    ask(box, "Hi")
    for part in ("7 tokens in", "2 out", "123.4 tokens/s", "first after 0.05 s", "9 of 400"):
        assert part in status(box)
    assert "cell is running" not in status(box)


def test_status_says_when_stop_has_to_wait(make_box, monkeypatch):
    shell = SimpleNamespace(display_trap=SimpleNamespace(is_active=True))
    monkeypatch.setattr(answer_module, "get_ipython", lambda: shell)
    gate = threading.Event()
    box = make_box(["a", gate, "b"])
    send(box, "Hi")
    until(lambda: "a cell is running" in status(box))
    gate.set()
    finish(box)
    assert "a cell is running" not in status(box)


def test_sliders_start_at_the_models_own_settings(make_box):
    box = make_box()
    assert box.temperature.value == 0.7
    assert box.top_p.value == 0.8
    ask(box, "Hi")
    assert box.model.options == [{"max_new_tokens": 100, "do_sample": True, "temperature": 0.7, "top_p": 0.8}]


def test_temperature_zero_is_greedy(make_box):
    box = make_box(do_sample=False, temperature=None, top_p=None)
    assert box.temperature.value == 0
    ask(box, "Hi")
    assert box.model.options == [{"max_new_tokens": 100, "do_sample": False}]


def test_system_prompt_can_be_changed(make_box):
    box = make_box()
    box.system.value = "Speak Chinese."
    ask(box, "Hi")
    assert box.model.prompts[0][0] == {"role": "system", "content": "Speak Chinese."}


@pytest.mark.parametrize("text", ["", "   ", "\n\n\t"])
def test_empty_input_does_nothing(make_box, text):
    box = make_box()
    ask(box, text)
    assert bubbles(box) == []
    assert box.model.prompts == []


def test_half_a_surrogate_pair_is_no_text(make_box):
    box = make_box()
    ask(box, "a\ud800b")
    assert bubbles(box) == [("a?b", "ok")]


def test_controls_follow_the_state(make_box):
    gate = threading.Event()
    box = make_box([gate, "a"])

    def can_press():
        controls = [box.send_button, box.again_button, box.clear_button, box.stop_button]
        return [not control.disabled for control in controls]

    assert can_press() == [True, True, True, False]
    send(box, "Hi")
    assert can_press() == [False, False, False, True]
    gate.set()
    finish(box)
    assert can_press() == [True, True, True, False]


# Streaming.


def test_answer_grows_and_only_the_last_bubble_is_sent(make_box):
    box = make_box(["old"], [f"{number} " for number in range(3000)])
    ask(box, "one")
    changed = []

    def watch(bubble, name):
        bubble.observe(lambda change: changed.append(name), "value")

    for bubble in box.view.log.children:
        watch(bubble, "old")
    box.view.log.observe(lambda change: watch(change.new[-1], "last"), "children")
    started = time.monotonic()
    ask(box, "two")
    seconds = time.monotonic() - started
    assert "old" not in changed
    refreshes = seconds / answer_module.REFRESH_SECONDS
    assert len(changed) <= 3 + refreshes, "waiting, first, last, and one per refresh"
    assert bubbles(box)[1][1].endswith("2999 ")


def test_refresh_rate_is_bounded():
    assert 2 / answer_module.REFRESH_SECONDS <= 20, "bubble and status line: two messages a refresh"


def test_first_piece_shows_at_once(make_box):
    gate = threading.Event()
    box = make_box(["first", gate, "rest"])
    send(box, "Hi")
    until(lambda: bubbles(box) == [("Hi", "first")])
    gate.set()
    finish(box)


# Stop, Regenerate, Clear, two clicks, two boxes.


def test_stop_keeps_what_is_there(make_box):
    never = threading.Event()
    box = make_box(["partial", never], ["fine"])
    send(box, "Hi")
    until(lambda: bubbles(box) == [("Hi", "partial")])
    box.stop_button.click()
    finish(box)
    assert bubbles(box) == [("Hi", "partial")]
    assert notice(box) == "Stopped."
    ask(box, "again")
    assert bubbles(box)[1][1] == "fine"


def test_stop_says_that_it_waits(make_box):
    prefill = Prefill()
    box = make_box([prefill, "a"])
    send(box, "Hi")
    box.stop_button.click()
    assert "Stopping after the token" in notice(box)
    prefill.set()
    finish(box)
    assert notice(box) == "Stopped."


def test_stop_before_the_first_token_leaves_no_answer(make_box):
    never = threading.Event()
    box = make_box([never], ["fine"])
    send(box, "one")
    until(lambda: bubbles(box))
    box.stop_button.click()
    finish(box)
    assert bubbles(box) == [("one", "<em>no answer</em>")]
    ask(box, "two")
    assert box.model.prompt_texts(1) == ["Be brief.", "two"], "no turn without an answer"


def test_late_stop_does_not_hit_the_next_answer(make_box):
    box = make_box(["one"], ["two"])
    ask(box, "a")
    box.stop_button.click()
    ask(box, "b")
    assert bubbles(box)[1] == ("b", "two")


def test_double_click_starts_one_generation(make_box):
    gate = threading.Event()
    box = make_box([gate, "once"])
    box.entry.value = "Hi"
    clicks = [threading.Thread(target=box.send_button.click) for _ in range(8)]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join()
    gate.set()
    finish(box)
    box.send_button.click()
    finish(box)
    assert len(box.model.prompts) == 1
    assert bubbles(box) == [("Hi", "once")]


def test_regenerate_replaces_the_last_answer(make_box):
    box = make_box(["one"], ["bad"], ["good"])
    ask(box, "a")
    ask(box, "b")
    box.entry.value = "half a thought"
    box.again_button.click()
    finish(box)
    assert bubbles(box) == [("a", "one"), ("b", "good")]
    assert box.model.prompt_texts(2) == ["Be brief.", "a", "one", "b"]
    assert box.entry.value == "half a thought"


def test_failed_regenerate_keeps_the_old_answer(make_box):
    box = make_box(["old"], [RuntimeError("boom")])
    ask(box, "a")
    box.again_button.click()
    finish(box)
    assert bubbles(box) == [("a", "old")]
    assert "boom" in notice(box)


def test_same_question_twice_is_two_turns(make_box):
    box = make_box([RuntimeError("boom")], ["fine"])
    ask(box, "a")
    ask(box, "a")
    assert bubbles(box) == [("a", "<em>no answer</em>"), ("a", "fine")]


def test_clear(make_box):
    box = make_box(["one"], ["two"])
    ask(box, "a")
    box.clear_button.click()
    assert bubbles(box) == []
    assert status(box) == ""
    assert len(box.messages) == 1
    box.again_button.click()  # nothing to ask again
    ask(box, "b")
    assert box.model.prompt_texts(1) == ["Be brief.", "b"]


def test_clear_waits_for_its_turn(make_box):
    """A click on Clear that was queued before the button was disabled does not tear the answer apart."""
    gate = threading.Event()
    box = make_box(["a", gate, "b"])
    send(box, "Hi")
    until(lambda: bubbles(box))
    box.clear_button.click()
    gate.set()
    finish(box)
    assert bubbles(box) == [("Hi", "ab")]
    assert len(box.messages) == 3


def test_second_box_closes_the_first(make_box):
    never = threading.Event()
    first = make_box(["partial", never])
    send(first, "Hi")
    until(lambda: bubbles(first) == [("Hi", "partial")])
    second = make_box(["fine"])
    assert first.wait(0), "stopped"
    assert first.model is None, "the model can be freed"
    assert first.send_button.disabled
    assert "closed" in notice(first)
    ask(first, "more")
    assert bubbles(first) == [("Hi", "partial")]
    ask(second, "Hello")
    assert bubbles(second) == [("Hello", "fine")]


def test_interrupt_while_waiting_stops_the_answer(make_box, monkeypatch):
    def interrupted(thread, timeout=None):
        raise KeyboardInterrupt

    never = threading.Event()
    box = make_box([never])
    send(box, "Hi")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            box.wait()
    finish(box)
    assert not box.send_button.disabled


def test_wait_gives_up_after_its_time(make_box):
    never = threading.Event()
    box = make_box([never])
    assert box.wait(), "nothing was sent yet"
    send(box, "Hi")
    assert box.wait(timeout=0.05) is False


# Failures.


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_out_of_memory(make_box, monkeypatch, error):
    emptied = []
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: emptied.append(True))
    box = make_box([error], ["fine"])
    ask(box, "Hi")
    assert notice(box).startswith("The memory ran out: press Clear")
    assert emptied
    assert len(box.messages) == 1
    ask(box, "again")
    assert bubbles(box)[1] == ("again", "fine")
    assert notice(box) == ""


def test_error_lets_go_of_its_tensors(make_box):
    class Big:
        def __del__(self):
            freed.append(True)

    def fail():
        big = Big()  # noqa: F841  # a local of the frame that the traceback holds
        raise RuntimeError("out of memory")
        yield

    freed = []
    box = make_box(fail())
    ask(box, "Hi")
    assert freed


def test_error_in_the_middle_keeps_the_text(make_box):
    box = make_box(["half ", RuntimeError("<img src=x onerror=alert(1)>\nsecond line")], ["fine"])
    ask(box, "Hi")
    assert bubbles(box) == [("Hi", "half ")]
    assert "RuntimeError: &lt;img" in notice(box)
    assert "second line" not in notice(box)
    assert "press Regenerate" in notice(box)
    box.again_button.click()
    finish(box)
    assert bubbles(box) == [("Hi", "fine")]


def test_a_course_error_is_shown_as_it_is(make_box):
    box = make_box([CourseError("No room: do this.")])
    ask(box, "Hi")
    assert notice(box) == "No room: do this."


def test_an_error_before_the_first_piece_leaves_no_waiting_bubble(make_box, monkeypatch):
    def refuse(*arguments, **options):
        raise CourseError("This model cannot chat: do that.")

    box = make_box()
    monkeypatch.setattr(answer_module, "stream_chat", refuse)
    ask(box, "Hi")
    assert bubbles(box) == [("Hi", "<em>no answer</em>")]
    assert notice(box) == "This model cannot chat: do that."


def test_too_long_a_message_is_refused_and_kept(make_box):
    box = make_box(["fine"])
    ask(box, "x" * 100_000)
    assert "100,009 tokens, but only 300 fit" in notice(box)
    assert "shorten it by 99,709" in notice(box)
    assert bubbles(box) == []
    assert len(box.entry.value) == 100_000
    assert box.model.prompts == []
    ask(box, "short")
    assert bubbles(box) == [("short", "fine")]


def test_long_conversation_drops_the_oldest_turns(make_box):
    answers = [["a" * 90] for _ in range(5)]
    box = make_box(*answers)
    for number in range(4):
        ask(box, f"{number}" * 10)
    assert notice(box) == "Left out to fit the context of 400 tokens: the oldest turn."
    assert [text[0] for text in box.model.prompt_texts(3)] == ["B", "1", "a", "2", "a", "3"]
    ask(box, "4" * 10)
    assert notice(box) == "Left out to fit the context of 400 tokens: the oldest 2 turns."
    assert len(bubbles(box)) == 5, "still to be read"
    assert len(box.messages) == 11, "nothing is forgotten in the box itself"


def test_cut_off_answer_is_named(make_box):
    box = make_box(finish_reason="length")
    ask(box, "Hi")
    assert notice(box).startswith("Cut off")


# Saving, display, routing.


def test_save_never_overwrites(make_box, tmp_path):
    box = make_box(["你好 `x`"])
    ask(box, "Hi")
    (tmp_path / "conversation-001.json").write_text("precious")
    box.save_button.click()
    assert notice(box) == "Saved as conversation-002.json."
    assert (tmp_path / "conversation-001.json").read_text() == "precious"
    saved = json.loads((tmp_path / "conversation-002.json").read_text(encoding="utf-8"))
    assert saved == box.messages


def test_save_that_fails_says_so(make_box, tmp_path):
    box = make_box()
    ask(box, "Hi")
    box.folder = tmp_path / "missing"
    box.save_button.click()
    assert notice(box).startswith("Not saved (No such file or directory)")


def test_display_holds_a_note_for_pages_without_a_kernel(make_box):
    bundle = make_box()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == NOTE
    assert NOTE in bundle["text/html"]


def test_show_routing_records_with_the_routing_recorder(make_box, monkeypatch):
    class Recorder:
        def __init__(self, model):
            self.routing = "what was recorded"

        def __enter__(self):
            happened.append("enter")

        def __exit__(self, *error):
            happened.append("exit")

    happened = []
    monkeypatch.setattr(answer_module, "RoutingRecorder", Recorder)
    monkeypatch.setattr(
        answer_module, "routing_strip", lambda routing, tokenizer, last: f"<hr>{routing}, {last}"
    )
    box = make_box(["ans", "wer"])
    box.show_routing = True
    ask(box, "Hi")
    assert happened == ["enter", "exit"]
    assert bubbles(box) == [("Hi", "answer<hr>what was recorded, 2")]
    assert box.messages[-1]["content"] == "answer"


def test_an_answer_stopped_before_its_first_token_has_no_strip(make_box, monkeypatch):
    class Recorder:
        def __init__(self, model):
            pass

        def __enter__(self):
            pass

        def __exit__(self, *error):
            pass

        @property
        def routing(self):
            raise CourseError("No routing is kept.")

    monkeypatch.setattr(answer_module, "RoutingRecorder", Recorder)
    never = threading.Event()
    box = make_box([never])
    box.show_routing = True
    send(box, "Hi")
    until(lambda: bubbles(box))
    box.stop_button.click()
    finish(box)
    assert bubbles(box) == [("Hi", "<em>no answer</em>")]
    assert notice(box) == "Stopped."


def test_a_model_without_routers_is_refused_before_the_question_is_taken(make_box, monkeypatch):
    def refuse(model):
        raise CourseError("This model has no router: do that.")

    monkeypatch.setattr(answer_module, "RoutingRecorder", refuse)
    box = make_box()
    box.show_routing = True
    ask(box, "Hi")
    assert notice(box) == "This model has no router: do that."
    assert bubbles(box) == []
    assert box.entry.value == "Hi"


# What the page needs.


def test_all_controls_report_to_the_same_subshell(make_box):
    """Else ipykernel 7.4 lets a click overtake the text, or loses it after a reload of the page."""
    box = make_box()
    controls = [box.entry, box.system, box.new_tokens, box.temperature, box.top_p, box.send_button]
    controls += [box.stop_button, box.again_button, box.clear_button, box.save_button]
    for control in controls:
        assert control.comm._reply_subshell_for({"method": "update"}, "the page's") == "the page's"


def test_the_last_updates_are_said_again(make_box, monkeypatch):
    """A page that is being reloaded asks for all states, and misses what comes while it reads them."""
    monkeypatch.setattr(view_module, "REPEAT_SECONDS", (0.01, 0.02))
    box = make_box()
    repeated = []
    monkeypatch.setattr(box.view.status, "send_state", lambda: repeated.append(status(box)))
    ask(box, "hello")
    until(lambda: len(repeated) == 2)
    assert repeated == [status(box), status(box)]
    assert "out" in status(box)
