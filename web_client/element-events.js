// @ts-check
/**
 * The events of `<voice-agent>`: what changed between two states, as an integrator reads it.
 *
 * All bubble and cross shadow roots; `detail` is one of the types below.
 */

import { failureText } from "./messages.js";

/** @typedef {import("./session.js").SessionState} SessionState */
/** @typedef {import("./session.js").Entry} Entry */
/** @typedef {import("./passages.js").Passage} Passage */

/**
 * `statechange`: what the element is doing has changed.
 *
 * @typedef {object} StateChange
 * @property {import("./modes.js").Mode} mode
 * @property {"connecting" | "open" | "waiting" | "stopped"} connection
 * @property {import("./activity.js").Activity} activity
 * @property {boolean} microphone whether it is on
 * @property {boolean} muted
 */

/**
 * `transcript`: more of what a person said or typed is known. `text` is all of it so far;
 * `final`: it changes no more.
 *
 * @typedef {object} Transcript
 * @property {string} itemId
 * @property {string} text
 * @property {boolean} final
 */

/**
 * `answer`: more of an answer has come. `text` is all of it so far. `status` is `streaming`
 * until it ends: `done`, `cut` (interrupted), `incomplete`, `failed` or `lost`.
 *
 * @typedef {object} Answer
 * @property {string} itemId
 * @property {string} responseId
 * @property {string} text
 * @property {Entry["status"]} status
 */

/**
 * `turnlatency`: how long an answer took to begin is known; it comes again when the server's
 * own measurement replaces the page's.
 *
 * @typedef {{itemId: string} & import("./session.js").Latency} TurnLatency
 */

/**
 * `translation`: more of a passage is known. Both texts are all of it so far and only grow.
 *
 * @typedef {object} Translation
 * @property {string} passageId
 * @property {string} source what was said
 * @property {string} text what it means
 * @property {string} language code of the language of `text`
 * @property {boolean} final
 */

/**
 * `failure`: something is wrong; `message` is the sentence that is shown. Its end is no event.
 *
 * @typedef {object} FailureDetail
 * @property {import("./messages.js").Failure | "server-error"} code
 * @property {string} message
 */

/**
 * @typedef {{type: "transcript", detail: Transcript} | {type: "answer", detail: Answer}
 *   | {type: "turnlatency", detail: TurnLatency} | {type: "translation", detail: Translation}
 *   | {type: "failure", detail: FailureDetail}} Change
 */

/**
 * @param {SessionState} before
 * @param {SessionState} after
 * @returns {Change[]} in the order of the conversation
 */
export function changesBetween(before, after) {
  /** @type {Change[]} */
  const changes = [];
  if (after.entries !== before.entries) {
    const known = new Map(before.entries.map((entry) => [entry.id, entry]));
    for (const entry of after.entries) changes.push(...entryChanges(known.get(entry.id), entry));
  }
  if (after.passages !== before.passages) {
    const known = new Map(before.passages.map((passage) => [passage.id, passage]));
    for (const passage of after.passages) {
      if (passage !== known.get(passage.id)) changes.push(passageChange(passage));
    }
  }
  if (after.error && after.error !== before.error) {
    changes.push({ type: "failure", detail: { code: "server-error", message: after.error } });
  }
  return changes;
}

/**
 * @param {Entry | undefined} before
 * @param {Entry} after
 * @returns {Change[]}
 */
function entryChanges(before, after) {
  if (before === after || after.role === "divider") return [];
  /** @type {Change[]} */
  const changes = [];
  const { id: itemId, text, status, responseId, latency } = after;
  const grew = text !== (before?.text ?? "") || status !== before?.status;
  if (after.role === "user") {
    const final = status === "done";
    if (text && (text !== before?.text || (final && before?.status !== "done"))) {
      changes.push({ type: "transcript", detail: { itemId, text, final } });
    }
  } else if (grew) {
    changes.push({ type: "answer", detail: { itemId, responseId, text, status } });
  }
  if (latency && latency !== before?.latency) {
    changes.push({ type: "turnlatency", detail: { itemId, ...latency } });
  }
  return changes;
}

/**
 * @param {Passage} passage
 * @returns {Change}
 */
function passageChange({ id, source, target, language, status }) {
  const final = status !== "open";
  const detail = { passageId: id, source, text: target, language, final };
  return { type: "translation", detail };
}

/** Dispatches the events of an element, each change once. */
export class Teller {
  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
    this.state = "";
    /** @type {readonly import("./messages.js").Failure[]} */
    this.failures = [];
  }

  /**
   * @param {string} type
   * @param {object | null} detail
   */
  tell(type, detail) {
    this.element.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true }));
  }

  /** @param {StateChange} state */
  tellState(state) {
    const text = JSON.stringify(state);
    if (text === this.state) return;
    this.state = text;
    this.tell("statechange", state);
  }

  /**
   * @param {readonly (import("./messages.js").Failure | null)[]} failures that there are now
   * @param {{kiosk: boolean}} place where they are shown
   */
  tellFailures(failures, place) {
    const before = this.failures;
    this.failures = failures.filter((code) => code !== null);
    for (const code of this.failures) {
      if (before.includes(code)) continue;
      this.tell("failure", { code, message: failureText(code, place) });
    }
  }
}
