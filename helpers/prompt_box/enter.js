// Enter in the text area of the prompt box sends its text; Shift+Enter begins a new line.
//
// The text travels in one message, so nothing can overtake a part of it. It stays in the text area until the
// kernel says that it has become a question, and then only what was sent is taken away: what was typed
// meanwhile stays.

function render({ model, el }) {
  let sent = null; // the text that the kernel has got and not yet answered for
  let composing = false; // an input method is putting a character together
  let accepted = false; // the kernel has answered, while a character was being put together

  const box = () => el.closest(".chat");
  const field = () => box()?.querySelector(".chat-entry textarea");

  function onKeyDown(event) {
    if (event.target !== field() || event.key !== "Enter") return;
    if (event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return;
    // Chinese input methods take Enter for themselves. Safari says so only by the key code.
    if (event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const text = event.target.value;
    const canSend = !box().querySelector(".chat-send").disabled;
    if (canSend && sent === null && text.trim() !== "") {
      sent = text;
      model.send({ text });
    }
  }

  function onComposition(event) {
    if (event.target !== field()) return;
    composing = event.type === "compositionstart";
    if (!composing && accepted) setTimeout(takeAway); // the characters are not in the text area yet
  }

  function onMessage({ taken }) {
    if (sent === null) return; // another view of the same box has sent it
    if (!taken) sent = null;
    else if (composing) accepted = true; // a change now would break the input method off
    else takeAway();
  }

  function takeAway() {
    const area = field();
    if (area?.value.startsWith(sent)) {
      area.value = area.value.slice(sent.length);
      area.dispatchEvent(new Event("change", { bubbles: true })); // so that the kernel's copy follows
    }
    sent = null;
    accepted = false;
  }

  // On the window and in the capture phase: before JupyterLab looks for its keyboard shortcuts.
  window.addEventListener("keydown", onKeyDown, true);
  window.addEventListener("compositionstart", onComposition, true);
  window.addEventListener("compositionend", onComposition, true);
  model.on("msg:custom", onMessage);
  model.send({ ready: true });

  return () => {
    window.removeEventListener("keydown", onKeyDown, true);
    window.removeEventListener("compositionstart", onComposition, true);
    window.removeEventListener("compositionend", onComposition, true);
    model.off("msg:custom", onMessage);
  };
}

export default { render };
