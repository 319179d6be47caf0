// @ts-check
/** What is wrong, what to do about it, and what can be done here: above the round button. */

import { button, element, part, setText } from "./dom.js";
import { TEXT, TYPING_HELPS, expiryText, failureText, resetText, retryText } from "./messages.js";

/** @typedef {import("./messages.js").Failure} Failure */
/** @typedef {import("./view.js").Actions} Actions */
/** @typedef {import("./view.js").Model} Model */

const KEY_FAILURES = new Set(["key-missing", "key-wrong", "key-malformed"]);

/** @param {Actions} actions */
export function createNotices(actions) {
  const connection = createNotice();
  const countdown = element("span", { className: "countdown" });
  // Says the seconds without a screen reader repeating each of them.
  countdown.setAttribute("aria-hidden", "true");
  const retry = button(TEXT.retryNow, actions.connect);
  const again = button("", actions.connect);
  const keyForm = createKeyForm(actions);
  connection.node.append(countdown, retry, again, keyForm);
  const microphone = createNotice();
  const transport = createNotice();
  const network = createNotice();
  const server = createNotice();
  const reset = createNotice();
  // Counts down: said once by its appearing, not with every second.
  reset.text.setAttribute("aria-live", "off");
  const node = element(
    "div",
    { className: "notices" },
    ...[connection, transport, microphone, network, server, reset].map((notice) => notice.node),
  );
  return {
    node,
    /** @param {Model} model */
    render(model) {
      const { state, failure, retryAtMs } = model.connection;
      const sentence = (/** @type {Failure | null} */ what) =>
        what ? failureText(what, model) : "";
      connection.show(sentence(failure));
      const waitS = retryAtMs === null ? 0 : Math.ceil((retryAtMs - model.nowMs) / 1000);
      setText(countdown, state === "stopped" ? "" : retryText(waitS));
      retry.hidden = model.kiosk || (state !== "waiting" && failure !== "server-refused");
      setText(again, TEXT.startAgain[model.mode]);
      again.hidden = model.kiosk || failure !== "session-ended";
      keyForm.hidden = model.kiosk || state !== "stopped" || !KEY_FAILURES.has(failure ?? "");
      reset.show(model.resetInS === null ? "" : resetText(model.resetInS));
      microphone.show(sentence(model.microphoneFailure), canType(model) ? TEXT.typingWorks : "");
      transport.show(sentence(model.transportNotice));
      network.show(sentence(model.networkIsSlow ? "network-slow" : null));
      const { error, expiry } = model.session;
      server.show(error || (expiry ? expiryText(expiry, model) : ""));
    },
  };
}

/**
 * Whether somebody whose microphone does not work can write instead, and is answered.
 *
 * @param {Model} model
 */
function canType({ mode, kiosk, session, microphoneFailure }) {
  const hasBox = mode === "conversation" && !kiosk;
  return hasBox && session.ready && microphoneFailure !== null && TYPING_HELPS.has(microphoneFailure);
}

function createNotice() {
  const text = element("span", { role: "alert" });
  // What comes and goes with the connection does not have the sentence said again.
  const remark = element("span");
  const paragraph = element("p", {}, text, new Text(" "), remark);
  const node = part("notice", element("div", { className: "notice", hidden: true }, paragraph));
  return {
    node,
    text,
    /**
     * @param {string} sentence empty hides it
     * @param {string} [also] what is true beside it
     */
    show(sentence, also = "") {
      setText(text, sentence);
      setText(remark, also);
      node.hidden = !sentence;
    },
  };
}

/** @param {Actions} actions */
function createKeyForm(actions) {
  const input = element("input", { type: "password", autocomplete: "off", required: true });
  input.setAttribute("aria-label", TEXT.key);
  input.placeholder = TEXT.key;
  const node = element(
    "form",
    { className: "key", hidden: true },
    input,
    element("button", { type: "submit", textContent: TEXT.connect }),
  );
  node.addEventListener("submit", (event) => {
    event.preventDefault();
    actions.useKey(input.value.trim());
    input.value = "";
  });
  return node;
}
