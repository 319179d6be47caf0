// @ts-check
/** Keeps the server's key as long as the tab lives, where the browser allows it. */

const PREFIX = "voice-agent-key ";

/**
 * @param {URL} server
 * @returns {string} empty when there is none
 */
export function loadKey(server) {
  return storage()?.getItem(PREFIX + server.origin) ?? "";
}

/**
 * @param {URL} server
 * @param {string} key
 */
export function saveKey(server, key) {
  storage()?.setItem(PREFIX + server.origin, key);
}

/** The tab's storage; null where cookies are blocked, which makes even looking at it throw. */
function storage() {
  try {
    return window.sessionStorage;
  } catch (error) {
    if (error instanceof DOMException && error.name === "SecurityError") return null;
    throw error;
  }
}
