// @ts-check
/**
 * The attributes of `<voice-agent>` as properties.
 *
 * Attributes, each also a property; one that changes counts at once:
 *
 * - `src`: address of the server, by default the one the page came from.
 * - `transport`: `websocket` (by default) or `webrtc`.
 * - `turns`: `hands-free` (by default) or `push-to-talk`, in conversations.
 * - `mode`: `conversation` (by default), `translation` or `captions`.
 * - `language`: what is translated into; in captions and conversations what is spoken. A BCP-47
 *   code or a name.
 * - `source-language`: what is spoken in a translation; detected by default.
 * - `kiosk`: large type, starts by itself, nothing to type or to set.
 * - `idle-seconds`: a kiosk forgets everything after so long without a word or a touch.
 */

import { DEFAULT_IDLE_S } from "./kiosk.js";
import { modeOf } from "./modes.js";

/**
 * Take a property that a page set before the element's class was there: as the element's own it
 * hides the one of the class.
 *
 * @param {HTMLElement} element
 * @param {string} name
 * @returns {unknown} Its value; undefined where there is none.
 */
export function takeEarly(element, name) {
  if (!Object.hasOwn(element, name)) return undefined;
  const value = Reflect.get(element, name);
  Reflect.deleteProperty(element, name);
  return value;
}

/** An element with these attributes and nothing else. */
export class AttributedElement extends HTMLElement {
  static observedAttributes = [
    "src",
    "transport",
    "turns",
    "mode",
    "language",
    "source-language",
    "kiosk",
    "idle-seconds",
  ];

  /** What a page set of these before the element's class was there counts, too. */
  takeEarlyProperties() {
    for (const name of Object.getOwnPropertyNames(AttributedElement.prototype)) {
      const value = takeEarly(this, name);
      if (value !== undefined) Reflect.set(this, name, value);
    }
  }

  /** Address of the server; empty where it is the one the page came from. */
  get src() {
    return this.getAttribute("src") ?? "";
  }
  set src(value) {
    this.setAttribute("src", value);
  }

  /** @returns {import("./modes.js").Mode} */
  get mode() {
    return modeOf(this.getAttribute("mode"));
  }
  set mode(value) {
    this.setAttribute("mode", value);
  }

  /** What is translated into; in other modes what is spoken. Empty for the server's choice. */
  get language() {
    return this.getAttribute("language") ?? "";
  }
  set language(value) {
    this.setAttribute("language", value);
  }

  /** What is spoken in a translation; empty to have it detected. */
  get sourceLanguage() {
    return this.getAttribute("source-language") ?? "";
  }
  set sourceLanguage(value) {
    this.setAttribute("source-language", value);
  }

  /** @returns {"websocket" | "webrtc"} */
  get transport() {
    return this.getAttribute("transport") === "webrtc" ? "webrtc" : "websocket";
  }
  set transport(value) {
    this.setAttribute("transport", value);
  }

  /** @returns {import("./conversation.js").Turns} */
  get turns() {
    return this.getAttribute("turns") === "push-to-talk" ? "push-to-talk" : "hands-free";
  }
  set turns(value) {
    this.setAttribute("turns", value);
  }

  get kiosk() {
    return this.hasAttribute("kiosk");
  }
  set kiosk(value) {
    this.toggleAttribute("kiosk", value);
  }

  /** Seconds; 0 never resets. */
  get idleSeconds() {
    const value = Number.parseFloat(this.getAttribute("idle-seconds") ?? "");
    return value >= 0 ? value : DEFAULT_IDLE_S;
  }
  set idleSeconds(value) {
    this.setAttribute("idle-seconds", String(value));
  }
}
