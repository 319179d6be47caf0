// @ts-check
/** Which microphones there are, and which one a person has chosen. */

import { storage } from "./storage.js";

const KEY = "voice-agent-microphone";

/**
 * @typedef {object} Device
 * @property {string} id
 * @property {string} label
 */

/**
 * The microphones, once the person has allowed one: before that browsers give no names.
 *
 * @returns {Promise<Device[]>}
 */
export async function listMicrophones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices
    .filter(({ kind, deviceId, label }) => kind === "audioinput" && deviceId && label)
    .map(({ deviceId, label }) => ({ id: deviceId, label }));
}

/**
 * Whether the browser opens a microphone without asking the person first.
 *
 * @returns {Promise<boolean>} false also where it does not tell: such browsers ask each time
 */
export async function microphoneIsAllowed() {
  try {
    const name = /** @type {PermissionName} */ ("microphone");
    return (await navigator.permissions.query({ name })).state === "granted";
  } catch {
    return false;
  }
}

/** The one chosen last, also on an earlier visit; empty for the system's choice. */
export function chosenMicrophone() {
  return storage("localStorage")?.getItem(KEY) ?? "";
}

/** @param {string} id */
export function rememberMicrophone(id) {
  storage("localStorage")?.setItem(KEY, id);
}
