// @ts-check
/**
 * Typed messages: shown at once, sent when there is a session, done when the server has them.
 *
 * Pure functions for `session.js` and `conversation.js`. A message that waits stands at the end
 * of the conversation. One that was sent and not confirmed when the connection broke waits again.
 */

import { itemEvent } from "./item-event.js";

/** @typedef {import("./session.js").Entry} Entry */

/**
 * Everything that waits, as events for a session, in order.
 *
 * @param {readonly Entry[]} entries
 * @returns {object[]}
 */
export function waitingEvents(entries) {
  return entries.filter(isWaiting).map(itemEvent);
}

/** @param {Entry} entry */
export function isWaiting({ status }) {
  return status === "waiting";
}

/**
 * The server has an item.
 *
 * @param {readonly Entry[]} entries
 * @param {string} id
 * @returns {readonly Entry[]} the same where it was no message that waited
 */
export function confirm(entries, id) {
  return settle(entries, id, { status: "done" });
}

/**
 * The server does not take an item.
 *
 * @param {readonly Entry[]} entries
 * @param {string | null | undefined} id of the event that it complains about
 * @param {string} reason
 * @returns {readonly Entry[]} the same where it was no message that waited
 */
export function refuse(entries, id, reason) {
  return settle(entries, id, { status: "refused", reason });
}

/**
 * @param {readonly Entry[]} entries
 * @param {string | null | undefined} id
 * @param {Partial<Entry>} changes
 */
function settle(entries, id, changes) {
  if (!entries.some((entry) => entry.id === id && isWaiting(entry))) return entries;
  return entries.map((entry) => (entry.id === id ? { ...entry, ...changes } : entry));
}
