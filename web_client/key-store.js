// @ts-check
/** Keeps the server's key as long as the tab lives, where the browser allows it. */

import { storage } from "./storage.js";

const PREFIX = "voice-agent-key ";

/**
 * @param {URL} server
 * @returns {string} empty when there is none
 */
export function loadKey(server) {
  return storage("sessionStorage")?.getItem(PREFIX + server.origin) ?? "";
}

/**
 * @param {URL} server
 * @param {string} key
 */
export function saveKey(server, key) {
  storage("sessionStorage")?.setItem(PREFIX + server.origin, key);
}
