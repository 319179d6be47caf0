// @ts-check
/** What the server says about itself over HTTP. */

/** @typedef {import("./messages.js").Failure} Failure */

/**
 * @typedef {object} ServerInfo
 * @property {Failure | null} failure why the server cannot be used, or null
 * @property {string} note a sentence about the engine's quality, or empty
 */

/**
 * Ask the server which model it runs. A WebSocket that was refused does not tell a page why;
 * this does.
 *
 * @param {URL} server any address on the server
 * @param {string} key empty for none
 * @returns {Promise<ServerInfo>}
 */
export async function fetchServerInfo(server, key) {
  /** @type {Response} */
  let response;
  try {
    response = await fetch(new URL("/v1/models", server), {
      headers: key ? { Authorization: `Bearer ${key}` } : {},
      cache: "no-store",
    });
  } catch {
    // fetch has one error for everything that kept an answer from coming.
    return { failure: "server-gone", note: "" };
  }
  if (!response.ok) return { failure: failureOfStatus(response.status), note: "" };
  const models = await response.json();
  return { failure: null, note: String(models.data?.[0]?.note ?? "") };
}

/**
 * @param {number} status of an answer that is no success
 * @returns {Failure}
 */
export function failureOfStatus(status) {
  switch (status) {
    case 401:
      return "key-wrong";
    case 403:
    case 421:
      return "server-refused";
    case 429:
      return "server-full";
    default:
      return "server-restarting";
  }
}
