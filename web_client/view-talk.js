// @ts-check
/** The round button: switches the microphone, or is held down while one speaks. */

import { button, icon } from "./dom.js";
import { TEXT } from "./messages.js";

/** @typedef {import("./view.js").Actions} Actions */
/** @typedef {import("./view.js").Model} Model */

const MICROPHONE_PATH =
  "M12 15a4 4 0 0 0 4-4V6a4 4 0 0 0-8 0v5a4 4 0 0 0 4 4zM5 11a7 7 0 0 0 14 0M12 18v4M8.5 22h7";
const STOP_PATH = "M7 7h10v10H7z";

const IS_STARTING = new Set(["asking", "starting"]);

/** @param {Actions} actions */
export function createTalkButton(actions) {
  let isHeldToTalk = false;
  let isTalking = false;
  let wasHeld = false;
  const node = button("", () => {}, "talk");
  node.append(icon(MICROPHONE_PATH, "start"), icon(STOP_PATH, "stop"));
  const hold = () => {
    if (isHeldToTalk) actions.startTalking();
  };
  const release = () => {
    if (isHeldToTalk) actions.stopTalking();
  };
  node.onpointerdown = (event) => {
    if (event.button !== 0) return;
    wasHeld = isHeldToTalk;
    // The finger may slide off: the button is let go where it is lifted.
    if (isHeldToTalk) node.setPointerCapture(event.pointerId);
    hold();
  };
  node.onpointerup = release;
  node.onpointercancel = release;
  node.oncontextmenu = (event) => {
    if (isHeldToTalk) event.preventDefault(); // a long touch opens it
  };
  node.onkeydown = (event) => {
    if (!isHeldToTalk || (event.code !== "Space" && event.code !== "Enter")) return;
    event.preventDefault();
    if (!event.repeat) hold();
  };
  node.onkeyup = (event) => {
    if (!isHeldToTalk || (event.code !== "Space" && event.code !== "Enter")) return;
    event.preventDefault(); // it would click
    release();
  };
  node.onblur = release;
  node.onclick = () => {
    if (!isHeldToTalk) actions.toggleMicrophone();
    else if (wasHeld) wasHeld = false;
    // A screen reader clicks and cannot hold: one click begins, the next one ends.
    else if (isTalking) actions.stopTalking();
    else actions.startTalking();
  };
  return {
    node,
    /** @param {Model} model */
    render(model) {
      isHeldToTalk = model.turns === "push-to-talk";
      isTalking = model.isTalking;
      const switchText = model.microphoneIsOn ? TEXT.stopTalking : TEXT.talk;
      const label = isHeldToTalk ? TEXT.holdToTalk : switchText;
      node.setAttribute("aria-label", label);
      node.title = label;
      if (isHeldToTalk) node.setAttribute("aria-pressed", String(isTalking));
      else node.removeAttribute("aria-pressed");
      // Not `disabled`: that would take the keyboard's focus away.
      node.setAttribute("aria-disabled", String(IS_STARTING.has(model.activity)));
    },
  };
}
