// @ts-check
/** What the element can be used for, and what each use asks of the server. */

import { WIRE_RATE_HZ } from "./pcm.js";

/**
 * `conversation`: speech is answered; `translation`: it is written in another language;
 * `captions`: it is written as it is spoken.
 *
 * @typedef {(typeof MODES)[number]} Mode
 */

/**
 * The languages of a session, as codes or names; empty for the server's choice.
 *
 * @typedef {object} Languages
 * @property {string} source what is spoken
 * @property {string} target what it is translated into
 */

export const MODES = Object.freeze(
  /** @type {const} */ (["conversation", "translation", "captions"]),
);

/**
 * @param {string | null} name of an attribute
 * @returns {Mode} the conversation where it names none
 */
export function modeOf(name) {
  return MODES.find((mode) => mode === name) ?? "conversation";
}

/** @type {Record<Mode, {path: string, query: Record<string, string>}>} */
const ROUTES = {
  conversation: { path: "/v1/realtime", query: { extensions: "timings,captions" } },
  translation: { path: "/v1/realtime/translations", query: { extensions: "timings" } },
  captions: {
    path: "/v1/realtime",
    query: { intent: "transcription", extensions: "timings" },
  },
};

/**
 * Where a session of this mode is opened.
 *
 * @param {Mode} mode
 * @param {"websocket" | "webrtc"} kind of transport
 * @param {URL} server
 */
export function sessionUrl(mode, kind, server) {
  const { path, query } = ROUTES[mode];
  const url = new URL(kind === "webrtc" ? `${path}/calls` : path, server);
  url.search = new URLSearchParams(query).toString().replaceAll("%2C", ",");
  if (kind === "websocket") url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

/**
 * The settings to send when a session begins, one `session.update` each.
 *
 * The first is what this page needs and no server refuses. Languages come by themselves: one
 * that the server's model does not know is refused, and the rest must not be refused with it.
 *
 * @param {Mode} mode
 * @param {Languages} languages
 * @param {object | null} [detection] of turns in a conversation; left out for the server's own
 * @returns {object[]}
 */
export function sessionSettings(mode, { source, target }, detection) {
  /** @type {object[]} */
  const settings = [firstSettings(mode, detection)];
  if (source) settings.push(sourceSettings(mode, source));
  if (target && mode === "translation") settings.push(targetSettings(target));
  return settings;
}

/**
 * @param {Mode} mode
 * @param {string} language what is spoken; empty to have it detected
 * @returns {object}
 */
export function sourceSettings(mode, language) {
  const audio = { input: { transcription: { language: language || null } } };
  return mode === "translation" ? { audio } : { type: SESSION_TYPE[mode], audio };
}

/**
 * @param {string} language what is translated into from the next segment on
 * @returns {object}
 */
export function targetSettings(language) {
  return { audio: { output: { language } } };
}

const SESSION_TYPE = Object.freeze({ conversation: "realtime", captions: "transcription" });

/** Everything else is the server's choice. */
const INPUT = { format: { type: "audio/pcm", rate: WIRE_RATE_HZ }, transcription: {} };

/**
 * @param {Mode} mode
 * @param {object | null} [detection]
 */
function firstSettings(mode, detection) {
  switch (mode) {
    case "translation":
      return { audio: { input: { transcription: {} } } };
    case "captions":
      return { type: "transcription", audio: { input: INPUT } };
    default: {
      const input = detection === undefined ? INPUT : { ...INPUT, turn_detection: detection };
      return { type: "realtime", output_modalities: ["text"], audio: { input } };
    }
  }
}
