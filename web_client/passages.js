// @ts-check
/**
 * A translation as this page knows it: what was said and what it means, passage by passage.
 *
 * Reducers for `session.js`. Both texts only ever grow. With the server's segment timings a
 * passage is one segment, so that what belongs together stands side by side; without them all
 * is one passage.
 */

import { EXTENSION_EVENT, TRANSLATION_EVENT } from "./messages.js";

/** @typedef {import("./session.js").SessionState} SessionState */

/** Older passages are dropped, so that a page that is never closed stays small. */
export const MAX_PASSAGES = 300;

/**
 * Status: `open` (more may come), `done`, `incomplete` (a limit), `failed`, `lost` (the
 * connection broke first).
 *
 * @typedef {object} Passage
 * @property {string} id
 * @property {string} source what was said
 * @property {string} target what it means
 * @property {string} language code of the language it is translated into
 * @property {"open" | "done" | "incomplete" | "failed" | "lost"} status
 * @property {number | null} latencyMs from the end of its speech to its first text
 */

/** @type {Record<string, (state: SessionState, event: any) => SessionState>} */
export const PASSAGE_REDUCERS = {
  [TRANSLATION_EVENT.sourceDelta]: (state, { delta }) => grow(state, "source", delta),

  // What was said before the language was changed is still translated as it was to be.
  [TRANSLATION_EVENT.targetDelta]: (state, { delta, language }) =>
    grow(state, "target", delta, language),

  [EXTENSION_EVENT.segmentTimings]: (state, event) => ({
    ...state,
    passages: state.passages.map((passage) =>
      passage.status === "open"
        ? {
            ...passage,
            status: STATUS_OF_SEGMENT[event.status] ?? "done",
            latencyMs: event.speech_end_to_first_text_ms,
          }
        : passage,
    ),
  }),
};

/** @type {Record<string, Passage["status"]>} */
const STATUS_OF_SEGMENT = { completed: "done", incomplete: "incomplete", failed: "failed" };

/**
 * No more will come to what is open.
 *
 * @param {readonly Passage[]} passages
 * @returns {readonly Passage[]}
 */
export function losePassages(passages) {
  return passages.map((passage) =>
    passage.status === "open" ? { ...passage, status: "lost" } : passage,
  );
}

/**
 * @param {SessionState} state
 * @param {"source" | "target"} side
 * @param {string} delta
 * @param {string} [language] that it is in, from servers that say so
 * @returns {SessionState}
 */
function grow(state, side, delta, language) {
  const last = state.passages.at(-1);
  if (last?.status === "open") {
    const grown = {
      ...last,
      language: language ?? last.language,
      [side]: (last[side] + delta).trimStart(),
    };
    return { ...state, passages: [...state.passages.slice(0, -1), grown] };
  }
  /** @type {Passage} */
  const passage = {
    id: `passage-${state.passagesBegun + 1}`,
    source: "",
    target: "",
    language: language ?? state.languages.target,
    status: "open",
    latencyMs: null,
    // What separates it from the passage before is their gap on the page.
    [side]: delta.trimStart(),
  };
  return {
    ...state,
    error: "",
    expiry: null,
    passagesBegun: state.passagesBegun + 1,
    passages: [...state.passages, passage].slice(-MAX_PASSAGES),
  };
}
