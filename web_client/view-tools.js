// @ts-check
/** The row below: who ends turns, which microphone, mute, copy and save. */

import { button, element, setText } from "./dom.js";
import { TEXT } from "./messages.js";

/** @typedef {import("./view.js").Actions} Actions */
/** @typedef {import("./view.js").Model} Model */

const COPIED_FOR_MS = 2_000;

/** @param {Actions} actions */
export function createTools(actions) {
  const turns = element("input", { type: "checkbox" });
  turns.setAttribute("role", "switch");
  turns.onchange = () => actions.setTurns(turns.checked ? "push-to-talk" : "hands-free");
  const turnsLabel = element("label", { className: "turns" }, turns);
  turnsLabel.append(TEXT.pushToTalk);
  const microphones = createMicrophoneList(actions);
  const off = button(TEXT.microphoneOff, actions.toggleMicrophone);
  let isMuted = false;
  const mute = button(TEXT.mute, () => actions.mute(!isMuted));
  const copy = createCopyButton(actions);
  const save = button(TEXT.save, actions.save);
  const node = element(
    "div",
    { className: "tools" },
    turnsLabel,
    microphones.node,
    off,
    mute,
    copy.node,
    save,
  );
  node.setAttribute("role", "group");
  node.setAttribute("aria-label", TEXT.tools);
  return {
    node,
    /** @param {Model} model */
    render(model) {
      const isHeldToTalk = model.turns === "push-to-talk";
      node.hidden = model.kiosk;
      turnsLabel.hidden = model.mode !== "conversation";
      turns.checked = isHeldToTalk;
      microphones.render(model);
      isMuted = model.microphoneIsMuted;
      setText(mute, isMuted ? TEXT.unmute : TEXT.mute);
      mute.hidden = isHeldToTalk || !model.microphoneIsOn;
      off.hidden = !isHeldToTalk || !model.microphoneIsOn;
      const { entries, passages } = model.session;
      const isEmpty = entries.every(({ text }) => !text) && passages.length === 0;
      copy.node.hidden = isEmpty;
      save.hidden = isEmpty;
    },
  };
}

/** @param {Actions} actions */
function createCopyButton(actions) {
  const node = button(TEXT.copy, async () => {
    const hasCopied = await actions.copy();
    setText(node, hasCopied ? TEXT.copied : TEXT.notCopied);
    setTimeout(() => setText(node, TEXT.copy), COPIED_FOR_MS);
  });
  return { node };
}

/** @param {Actions} actions */
function createMicrophoneList(actions) {
  const node = element("select", { className: "microphones", hidden: true });
  node.setAttribute("aria-label", TEXT.microphone);
  node.onchange = () => actions.chooseMicrophone(node.value);
  /** @type {Model["microphones"]} */
  let shown = [];
  return {
    node,
    /** @param {Model} model */
    render({ microphones, microphoneId }) {
      if (microphones !== shown) {
        shown = microphones;
        node.replaceChildren(
          ...microphones.map(({ id, label }) =>
            element("option", { value: id, textContent: label }),
          ),
        );
        node.hidden = microphones.length === 0;
      }
      if (microphones.some(({ id }) => id === microphoneId)) node.value = microphoneId;
    },
  };
}
