// @ts-check
/** What is going on, as it is shown: by what session, connection and microphone are doing. */

import { activityOf } from "./session.js";

/** @typedef {keyof typeof import("./messages.js").TEXT.activity} Activity */

/**
 * @param {object} what
 * @param {import("./session.js").SessionState} what.session
 * @param {import("./modes.js").Mode} what.mode
 * @param {import("./conversation.js").Turns} what.turns
 * @param {boolean} what.isTalking the button is held down
 * @param {{isOn: boolean, isStarting: boolean, isAsking: boolean, isMuted: boolean}}
 *   what.microphone
 * @returns {Activity} the most pressing
 */
export function shownActivity({ session, mode, turns, isTalking, microphone }) {
  if (microphone.isStarting && !microphone.isOn) {
    return microphone.isAsking ? "asking" : "starting";
  }
  if (!session.ready) return "offline";
  if (isTalking && microphone.isOn) return "hearing";
  const activity = activityOf(session);
  if (activity === "thinking" && mode === "captions") return "recognising";
  if (activity !== "quiet") return activity;
  if (!microphone.isOn) return "idle";
  if (turns === "push-to-talk") return "waiting";
  return microphone.isMuted ? "muted" : "listening";
}
