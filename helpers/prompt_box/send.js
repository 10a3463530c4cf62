// Enter in the text area of the prompt box sends its text, as a click on Send does; Shift+Enter begins a new line.
//
// JupyterLab runs this when it shows the output that holds it: `element` is the place of that output, an
// invisible part of the box. Beside it are two more. What is written into the "outbox" goes to the kernel, the
// whole text in one message, so nothing can overtake a part of it. The kernel answers in the "inbox". Until then
// the text stays in the text area; if it has become a question, only what was sent is taken away: what was
// typed meanwhile stays.
//
// text_area.py puts TEXTS in front of this, in the language of the box.

(() => {
  const box = () => element.closest(".chat");
  const find = (selector) => box()?.querySelector(selector);
  const field = () => find(".chat-entry textarea");

  let sent = null; // the message that waits for its answer: { id, text }
  let composing = false; // an input method is putting a character together
  let accepted = false; // the answer came while it did

  // Set a text as if somebody had typed it: the widget reports it to the kernel.
  function write(area, text) {
    area.value = text;
    area.dispatchEvent(new Event("change", { bubbles: true }));
  }

  function onKeyDown(event) {
    if (event.target !== field() || event.key !== "Enter") return;
    if (event.shiftKey) event.stopPropagation(); // a new line; Notebook 7 would run a cell
    if (event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return;
    // Chinese input methods take Enter for themselves. Safari says so only by the key code.
    if (event.isComposing || event.keyCode === 229) return;
    take(event);
    send();
  }

  function onClick(event) {
    const button = find(".chat-send");
    if (!button?.contains(event.target)) return;
    take(event); // the widget of the button would send the click without the text
    send();
    field().focus();
  }

  // Nobody else handles this event.
  function take(event) {
    event.preventDefault();
    event.stopImmediatePropagation();
  }

  function send() {
    const text = field().value;
    const canSend = !find(".chat-send").disabled;
    if (!canSend || sent !== null || text.trim() === "") return;
    sent = { id: Date.now(), text };
    inboxObserver.observe(find(".chat-inbox"), { childList: true, subtree: true, characterData: true });
    write(find(".chat-outbox textarea"), JSON.stringify(sent));
  }

  function onAnswer() {
    const content = find(".chat-inbox")?.textContent.trim();
    if (!content) return;
    const { id, taken } = JSON.parse(content);
    if (id !== sent?.id) return; // the answer to another view of this box
    inboxObserver.disconnect();
    if (!taken) sent = null;
    else if (composing) accepted = true; // a change now would break the input method off
    else takeAway();
  }

  function takeAway() {
    const area = field();
    if (area?.value.startsWith(sent.text)) write(area, area.value.slice(sent.text.length));
    sent = null;
    accepted = false;
  }

  function onComposition(event) {
    if (event.target !== field()) return;
    composing = event.type === "compositionstart";
    if (!composing && accepted) setTimeout(takeAway); // its characters come after this event
  }

  const inboxObserver = new MutationObserver(onAnswer);
  // On the window and in the capture phase: before JupyterLab looks for its keyboard shortcuts.
  window.addEventListener("keydown", onKeyDown, true);
  window.addEventListener("click", onClick, true);
  window.addEventListener("compositionstart", onComposition, true);
  window.addEventListener("compositionend", onComposition, true);

  // For screen readers: the language of the box, and what its parts are.
  function label() {
    box().lang = TEXTS.language;
    box().setAttribute("role", "group");
    box().setAttribute("aria-label", TEXTS.box);
    find(".chat-log").setAttribute("role", "group");
    find(".chat-log").setAttribute("aria-label", TEXTS.log);
    find(".chat-notice").setAttribute("role", "status"); // a new notice is read out
    for (const area of box().querySelectorAll("textarea[title]")) area.setAttribute("aria-label", area.title);
    for (const slider of box().querySelectorAll(".widget-slider")) {
      const handle = slider.querySelector("[role=slider]");
      handle?.setAttribute("aria-label", slider.querySelector("label").textContent);
    }
  }

  // The hint says "Enter" as soon as the box is in the page. The listeners stay: in a closed box they find
  // nothing to do, and JupyterLab may take a cell out of the page and put it back.
  const timer = setInterval(() => {
    if (!field() || !find(".chat-log") || !find(".chat-notice")) return;
    field().placeholder = TEXTS.hint;
    label();
    clearInterval(timer);
  }, 100);
})();
