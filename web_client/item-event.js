// @ts-check
/** What is on the page, as the event that tells a session of it. */

import { CLIENT_EVENT } from "./messages.js";

/**
 * The item keeps its id, so that it does not appear twice on the page; the event has the same one,
 * so that a refusal names it.
 *
 * @param {Pick<import("./session.js").Entry, "id" | "role" | "text">} entry not a divider
 * @returns {object}
 */
export function itemEvent({ id, role, text }) {
  const isUser = role === "user";
  const content = [{ type: isUser ? "input_text" : "output_text", text }];
  return {
    type: CLIENT_EVENT.itemCreate,
    event_id: id,
    item: { id, type: "message", role: isUser ? "user" : "assistant", content },
  };
}
