// @ts-check
/** What the server says about itself over HTTP. */

/** @typedef {import("./messages.js").Failure} Failure */

/**
 * @typedef {object} ServerInfo
 * @property {Failure | null} failure why the server cannot be used, or null
 * @property {string} note a sentence about the engine's quality, or empty
 * @property {readonly string[]} sources codes of the languages it understands
 * @property {readonly string[]} targets codes of those it can translate into
 */

/** @type {ServerInfo} */
export const UNKNOWN_SERVER = Object.freeze({ failure: null, note: "", sources: [], targets: [] });

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
    return { ...UNKNOWN_SERVER, failure: "server-gone" };
  }
  if (!response.ok) return { ...UNKNOWN_SERVER, failure: failureOfStatus(response.status) };
  const models = await response.json();
  const model = models.data?.[0] ?? {};
  return {
    failure: null,
    note: String(model.note ?? ""),
    sources: model.languages ?? [],
    targets: model.translation_targets ?? [],
  };
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
