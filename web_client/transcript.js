// @ts-check
/** The conversation as items for a new session, and as text for people. Pure functions. */

import { itemEvent } from "./item-event.js";
import { TEXT } from "./messages.js";
import { isWaiting } from "./typed.js";

/** @typedef {import("./passages.js").Passage} Passage */
/** @typedef {import("./session.js").Entry} Entry */

/**
 * Events that tell a new session what was said in the one before: speech as its transcript, an
 * answer as far as it came.
 *
 * @param {readonly Entry[]} entries
 * @returns {object[]}
 */
export function recreateEvents(entries) {
  const known = spoken(entries).filter((entry) => !isWaiting(entry) && entry.status !== "refused");
  return known.map(itemEvent);
}

/**
 * What was said so far, as a text file.
 *
 * @param {import("./modes.js").Mode} mode
 * @param {{entries: readonly Entry[], passages: readonly Passage[]}} state
 * @returns {string} empty when nothing was said
 */
export function textOf(mode, { entries, passages }) {
  switch (mode) {
    case "translation":
      return translationText(passages);
    case "captions":
      return captionsText(entries);
    default:
      return conversationText(entries);
  }
}

export const FILE_NAME = Object.freeze({
  conversation: "conversation.txt",
  translation: "translation.txt",
  captions: "captions.txt",
});

/**
 * A paragraph for each turn.
 *
 * @param {readonly Entry[]} entries
 */
function conversationText(entries) {
  const paragraphs = spoken(entries).map(
    ({ role, text }) => `${role === "user" ? TEXT.you : TEXT.agent}: ${text}\n`,
  );
  return paragraphs.join("\n");
}

/**
 * A line for each turn: who speaks is not known.
 *
 * @param {readonly Entry[]} entries
 */
function captionsText(entries) {
  return spoken(entries)
    .map(({ text }) => `${text}\n`)
    .join("");
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
 * For each passage what was said, then what it means.
 *
 * @param {readonly Passage[]} passages
 */
function translationText(passages) {
  return passages.map(({ source, target }) => `${source.trim()}\n${target.trim()}\n`).join("\n");
}
