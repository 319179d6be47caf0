// @ts-check
/** The conversation as items for a new session, and as text for people. Pure functions. */

import { CLIENT_EVENT, TEXT } from "./messages.js";

/** @typedef {import("./session.js").Entry} Entry */

/** Begins the id of every event that recreates an item, so that a refusal can be told apart. */
export const RECREATE_PREFIX = "recreate_";

/**
 * Events that tell a new session what was said in the one before: speech as its transcript, an
 * answer as far as it came. Items keep their ids, so none appears twice on the page.
 *
 * @param {readonly Entry[]} entries
 * @returns {object[]}
 */
export function recreateEvents(entries) {
  return spoken(entries).map(({ id, role, text }) => ({
    type: CLIENT_EVENT.itemCreate,
    event_id: RECREATE_PREFIX + id,
    item: {
      id,
      type: "message",
      role: role === "user" ? "user" : "assistant",
      content: [{ type: role === "user" ? "input_text" : "output_text", text }],
    },
  }));
}

/**
 * The conversation as a text file: a paragraph for each turn.
 *
 * @param {readonly Entry[]} entries
 * @returns {string} empty when nothing was said
 */
export function conversationText(entries) {
  const paragraphs = spoken(entries).map(
    ({ role, text }) => `${role === "user" ? TEXT.you : TEXT.agent}: ${text}\n`,
  );
  return paragraphs.join("\n");
}

/**
 * What one could read aloud.
 *
 * @param {readonly Entry[]} entries
 */
function spoken(entries) {
  return entries.filter(({ role, text }) => role !== "divider" && text.trim() !== "");
}

/**
 * A translation as a text file: for each passage what was said, then what it means.
 *
 * @param {readonly import("./passages.js").Passage[]} passages
 * @returns {string} empty when nothing was said
 */
export function translationText(passages) {
  return passages.map(({ source, target }) => `${source.trim()}\n${target.trim()}\n`).join("\n");
}
