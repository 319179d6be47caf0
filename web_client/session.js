// @ts-check
/**
 * The conversation as this page knows it: a pure function of the events so far.
 *
 * No DOM, no socket, no clock: `reduce(state, event, nowMs)` gives the next state and never
 * changes the one it was given. Unknown events change nothing.
 */

import { EXTENSION_EVENT, HARMLESS_ERROR_CODES, SERVER_EVENT, TEXT } from "./messages.js";
import { PASSAGE_REDUCERS, losePassages } from "./passages.js";
import { confirm, isWaiting, refuse } from "./typed.js";

/** Older entries are dropped, so that a page that is never closed stays small. */
export const MAX_ENTRIES = 200;

/**
 * One line of the conversation.
 *
 * Status of a user's entry: `hearing` (is speaking), `recognising` (has spoken, words to
 * come), `done`, `failed` (no words could be made of it), `waiting` (typed, the server does not
 * have it yet), `refused` (typed, the server does not take it). Of an agent's: `streaming`, `done`,
 * `cut` (interrupted), `incomplete` (a limit), `failed`. `lost`: the connection broke first.
 *
 * @typedef {object} Entry
 * @property {string} id the item's id on the wire; of a divider, one of our own
 * @property {"user" | "agent" | "divider"} role
 * @property {string} text
 * @property {"hearing" | "recognising" | "waiting" | "streaming" | "done" | "cut" | "incomplete"
 *   | "failed" | "refused" | "lost"} status
 * @property {string} reason what the server gave for `cut`, `incomplete`, `failed` or `refused`;
 *   or empty
 * @property {Latency | null} latency how long the answer took to begin
 * @property {string} responseId of an agent's entry, or empty
 */

/**
 * @typedef {object} Latency
 * @property {number} ms
 * @property {"server" | "page"} measuredBy `server`: from the end of speech to the first
 *   token; `page`: from hearing that the turn is over to the first piece of text
 * @property {Readonly<Record<string, number>>} stagesMs the server's share by stage, or empty
 */

/**
 * @typedef {object} ActiveResponse
 * @property {string} id
 * @property {string | null} entryId
 * @property {boolean} hasText
 */

/**
 * @typedef {object} SessionState
 * @property {boolean} ready the session is set up and takes audio and items
 * @property {readonly Entry[]} entries oldest first
 * @property {ActiveResponse | null} response the answer in progress
 * @property {number | null} turnEndedAtMs when the last spoken turn ended, until it is answered
 * @property {string} error what the server complained about last, or empty
 * @property {{reason: string, remainingS: number} | null} expiry the server ends the session
 *   soon, and why
 * @property {number} conversations how many sessions were begun on this page
 * @property {boolean} continues the next session is told what was said in this one
 * @property {boolean} unanswered what was said last was being answered when the connection broke,
 *   and nothing of the answer had come
 * @property {import("./modes.js").Languages} languages in effect, as codes
 * @property {readonly import("./passages.js").Passage[]} passages of a translation, oldest first
 * @property {number} passagesBegun how many there were so far
 */

/** @type {SessionState} */
export const INITIAL = Object.freeze({
  ready: false,
  entries: Object.freeze([]),
  response: null,
  turnEndedAtMs: null,
  error: "",
  expiry: null,
  conversations: 0,
  continues: true,
  unanswered: false,
  languages: Object.freeze({ source: "", target: "" }),
  passages: Object.freeze([]),
  passagesBegun: 0,
});

/**
 * What is going on in the conversation, the most pressing first.
 *
 * @param {SessionState} state
 * @returns {"quiet" | "hearing" | "thinking" | "answering" | "translating"}
 */
export function activityOf(state) {
  if (state.entries.some((entry) => entry.status === "hearing")) return "hearing";
  if (state.response) return state.response.hasText ? "answering" : "thinking";
  if (state.entries.some((entry) => entry.status === "recognising")) return "thinking";
  if (state.passages.at(-1)?.status === "open") return "translating";
  return "quiet";
}

/**
 * A message was typed.
 *
 * @param {SessionState} state
 * @param {string} id that its item is to have
 * @param {string} text
 * @returns {SessionState}
 */
export function addTyped(state, id, text) {
  return add(state, userEntry(id, text, "waiting"));
}

/**
 * The connection is gone, and with it all that was on its way but what was typed.
 *
 * @param {SessionState} state
 * @param {boolean} continues the next session is to go on with this conversation
 * @returns {SessionState}
 */
export function disconnect(state, continues = true) {
  const entries = state.entries
    .map((entry) => (isOpen(entry) ? { ...entry, status: /** @type {const} */ ("lost") } : entry))
    .filter((entry) => entry.status !== "lost" || entry.role === "user" || entry.text);
  const isCut = state.response !== null && !state.response.hasText;
  const unanswered = state.unanswered || (isCut && entries.at(-1)?.role === "user");
  const { conversations, languages, passagesBegun } = state;
  const passages = losePassages(state.passages);
  return {
    ...INITIAL,
    entries,
    conversations,
    continues,
    unanswered,
    languages,
    passages,
    passagesBegun,
  };
}

/**
 * @param {SessionState} state
 * @param {any} event a server event
 * @param {number} nowMs of any steady clock
 * @returns {SessionState}
 */
export function reduce(state, event, nowMs) {
  return REDUCERS[event.type]?.(state, event, nowMs) ?? state;
}

/** @type {Record<string, (state: SessionState, event: any, nowMs: number) => SessionState>} */
const REDUCERS = {
  [SERVER_EVENT.error]: (state, { error }) => {
    if (HARMLESS_ERROR_CODES.includes(error.code)) return state;
    const entries = refuse(state.entries, error.event_id, error.message);
    // At the message that it is about it need not be said twice.
    return entries === state.entries ? { ...state, error: error.message } : { ...state, entries };
  },

  [SERVER_EVENT.sessionCreated]: (state, { session }) =>
    noteLanguages(beginConversation(state, session.type), session),

  [SERVER_EVENT.sessionUpdated]: (state, event) =>
    noteLanguages({ ...state, ready: true }, event.session),

  [SERVER_EVENT.speechStarted]: (state, event) =>
    add({ ...state, error: "", expiry: null }, userEntry(event.item_id, "", "hearing")),

  [SERVER_EVENT.speechStopped]: (state, event, nowMs) => ({
    ...change(state, event.item_id, { status: "recognising" }),
    turnEndedAtMs: nowMs,
  }),

  [SERVER_EVENT.itemAdded]: (state, { item }, nowMs) => addItem(state, item, nowMs),

  [SERVER_EVENT.itemDeleted]: (state, event) => ({
    ...state,
    entries: state.entries.filter((entry) => entry.id !== event.item_id),
  }),

  [SERVER_EVENT.transcriptDelta]: (state, event) => append(state, event.item_id, event.delta),

  [SERVER_EVENT.transcriptCompleted]: (state, event) =>
    change(state, event.item_id, { text: event.transcript.trim(), status: "done" }),

  [SERVER_EVENT.transcriptFailed]: (state, event) =>
    change(state, event.item_id, { status: "failed", reason: event.error.message ?? "" }),

  [SERVER_EVENT.responseCreated]: (state, { response }) => ({
    ...state,
    error: "",
    expiry: null,
    response: { id: response.id, entryId: null, hasText: false },
  }),

  [SERVER_EVENT.outputItemAdded]: (state, event) => beginAnswer(state, event),

  [SERVER_EVENT.textDelta]: (state, event, nowMs) =>
    append(noteFirstText(state, event, nowMs), event.item_id, event.delta),

  [SERVER_EVENT.textDone]: (state, event) => change(state, event.item_id, { text: event.text }),

  [SERVER_EVENT.responseDone]: (state, { response }) => endResponse(state, response),

  [EXTENSION_EVENT.turnTimings]: (state, event) => noteTimings(state, event),

  [EXTENSION_EVENT.sessionExpiring]: (state, event) => ({
    ...state,
    expiry: { reason: event.reason, remainingS: event.remaining_s },
  }),

  ...PASSAGE_REDUCERS,
};

/**
 * @param {SessionState} state
 * @param {any} session as the server shows it
 * @returns {SessionState}
 */
function noteLanguages(state, session) {
  const source = session.audio?.input?.transcription?.language ?? "";
  return { ...state, languages: { source, target: session.audio?.output?.language ?? "" } };
}

/** @param {Entry} entry */
function isOpen(entry) {
  return ["hearing", "recognising", "streaming"].includes(entry.status);
}

/**
 * @param {string} id
 * @param {string} text
 * @param {Entry["status"]} status
 * @returns {Entry}
 */
function userEntry(id, text, status) {
  return { id, role: "user", text, status, reason: "", latency: null, responseId: "" };
}

/**
 * @param {string} id
 * @param {string} responseId
 * @returns {Entry}
 */
function agentEntry(id, responseId) {
  return { ...userEntry(id, "", "streaming"), role: "agent", responseId };
}

/**
 * What the server knows of, before what it does not have yet: that is how it puts them in order.
 *
 * @param {SessionState} state
 * @param {Entry} entry left out when its id is there already
 * @returns {SessionState}
 */
function add(state, entry) {
  if (state.entries.some(({ id }) => id === entry.id)) return state;
  const known = state.entries.filter((one) => !isWaiting(one));
  const waiting = state.entries.filter(isWaiting);
  const entries = isWaiting(entry) ? [...known, ...waiting, entry] : [...known, entry, ...waiting];
  return { ...state, entries: entries.slice(-MAX_ENTRIES) };
}

/**
 * @param {SessionState} state
 * @param {string} id
 * @param {Partial<Entry>} changes
 * @returns {SessionState}
 */
function change(state, id, changes) {
  const entries = state.entries.map((entry) =>
    entry.id === id ? { ...entry, ...changes } : entry,
  );
  return { ...state, entries };
}

/**
 * @param {SessionState} state
 * @param {string} id
 * @param {string} delta
 */
function append(state, id, delta) {
  const entry = state.entries.find((candidate) => candidate.id === id);
  return entry ? change(state, id, { text: entry.text + delta }) : state;
}

/**
 * @param {SessionState} state
 * @param {string} type of session
 * @returns {SessionState}
 */
function beginConversation(state, type) {
  const conversations = state.conversations + 1;
  const begun = { ...disconnect(state), conversations, unanswered: false };
  const waiting = begun.entries.filter(isWaiting);
  const before = begun.entries.filter((entry) => !isWaiting(entry));
  if (before.length === 0) return begun;
  const words = type === "transcription" ? TEXT.captionsBegin : TEXT.conversationBegins;
  const text = state.continues ? words.again : words.anew;
  const divider = userEntry(`conversation-${conversations}`, text, "done");
  // After a server that came and went several times, one line says it.
  if (before.at(-1)?.role === "divider") before.pop();
  const entries = [...before, { ...divider, role: /** @type {const} */ ("divider") }, ...waiting];
  return { ...begun, entries: entries.slice(-MAX_ENTRIES) };
}

/**
 * A typed message, or a spoken one that was never announced as speech.
 *
 * @param {SessionState} state
 * @param {any} item
 * @param {number} nowMs
 */
function addItem(state, item, nowMs) {
  if (item.type !== "message" || item.role !== "user") return state;
  const typed = item.content.filter((/** @type {any} */ part) => part.type === "input_text");
  if (typed.length === 0) {
    const begun = add(state, userEntry(item.id, "", "recognising"));
    return begun === state ? state : { ...begun, turnEndedAtMs: nowMs };
  }
  const text = typed.map((/** @type {any} */ part) => part.text).join("\n");
  const known = { ...state, entries: confirm(state.entries, item.id) };
  return add(known, userEntry(item.id, text, "done"));
}

/**
 * @param {SessionState} state
 * @param {any} event
 */
function beginAnswer(state, event) {
  const { response } = state;
  if (event.item.type !== "message" || !response || response.id !== event.response_id) return state;
  const begun = add(state, agentEntry(event.item.id, event.response_id));
  return { ...begun, response: { ...response, entryId: event.item.id } };
}

/**
 * @param {SessionState} state
 * @param {any} event
 * @param {number} nowMs
 * @returns {SessionState}
 */
function noteFirstText(state, event, nowMs) {
  const { response, turnEndedAtMs } = state;
  if (!response || response.id !== event.response_id || response.hasText) return state;
  const begun = { ...state, response: { ...response, hasText: true }, turnEndedAtMs: null };
  if (turnEndedAtMs === null) return begun;
  /** @type {Latency} */
  const latency = { ms: nowMs - turnEndedAtMs, measuredBy: "page", stagesMs: {} };
  return change(begun, event.item_id, { latency });
}

/**
 * @param {SessionState} state
 * @param {any} response
 * @returns {SessionState}
 */
function endResponse(state, response) {
  const active = state.response;
  if (!active || active.id !== response.id) return state;
  const ended = { ...state, response: null };
  const status = STATUS_OF_RESPONSE[response.status] ?? "done";
  const details = response.status_details ?? {};
  const reason = details.error?.message ?? details.reason ?? "";
  if (active.entryId === null) {
    if (status !== "failed") return ended;
    return add(ended, { ...agentEntry(response.id, response.id), status, reason });
  }
  if (status !== "failed" && !active.hasText) {
    return { ...ended, entries: ended.entries.filter(({ id }) => id !== active.entryId) };
  }
  return change(ended, active.entryId, { status, reason });
}

/** @type {Record<string, Entry["status"]>} */
const STATUS_OF_RESPONSE = {
  completed: "done",
  cancelled: "cut",
  incomplete: "incomplete",
  failed: "failed",
};

/**
 * @param {SessionState} state
 * @param {any} event its `item_id` is what was said; the time is shown with the answer
 */
function noteTimings(state, event) {
  const answer = state.entries.find(
    ({ role, responseId }) => role === "agent" && responseId === event.response_id,
  );
  if (!answer || event.speech_end_to_first_token_ms === null) return state;
  /** @type {Latency} */
  const latency = {
    ms: event.speech_end_to_first_token_ms,
    measuredBy: "server",
    stagesMs: event.stages_ms,
  };
  return change(state, answer.id, { latency });
}
