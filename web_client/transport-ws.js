// @ts-check
/** The Realtime protocol over a WebSocket: JSON events as text, microphone sound as binary. */

import { WIRE_RATE_HZ } from "./pcm.js";

/** @typedef {import("./messages.js").Failure} Failure */

const SUBPROTOCOL = "realtime";
/** A browser cannot set headers on a WebSocket: the key travels as a second subprotocol. */
const KEY_SUBPROTOCOL = "openai-insecure-api-key.";
const BYTES_PER_MS = (WIRE_RATE_HZ * 2) / 1000;

/**
 * How a connection ended.
 *
 * @typedef {object} Ending
 * @property {number} code close code; 1006 when the server vanished or refused to open
 * @property {string} reason
 * @property {boolean} opened false when it never was open
 * @property {Failure} [failure] why, where that is known better than by the code
 */

/**
 * What every transport calls; `onEnded` exactly once, and nothing after it.
 *
 * @typedef {object} TransportHandlers
 * @property {(event: any) => void} onEvent one parsed server event
 * @property {(ending: Ending) => void} onEnded
 */

/**
 * What every transport offers. Sending on one that is not open does nothing.
 *
 * @typedef {object} Transport
 * @property {(event: object) => void} sendEvent
 * @property {(pcm: ArrayBuffer) => void} sendAudio PCM16 mono 24 kHz
 * @property {(stream: MediaStream | null) => void} useMicrophone speak with this from now on; what
 *   takes sound by `sendAudio` does nothing here
 * @property {() => number} unsentAudioMs sound that waits for the network
 * @property {() => void} close end it; `onEnded` is not called
 */

/** The key holds characters that a WebSocket handshake cannot carry. */
export class MalformedKey extends Error {}

/**
 * Open a connection.
 *
 * @param {URL} url `ws:` or `wss:`
 * @param {string} key empty for none
 * @param {TransportHandlers} handlers
 * @returns {Transport}
 * @throws {MalformedKey}
 */
export function openWebSocket(url, key, handlers) {
  const socket = createSocket(url, key);
  let opened = false;
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    opened = true;
  };
  socket.onmessage = (message) => handlers.onEvent(JSON.parse(message.data));
  socket.onclose = ({ code, reason }) => handlers.onEnded({ code, reason, opened });
  const isOpen = () => socket.readyState === WebSocket.OPEN;
  return {
    sendEvent: (event) => {
      if (isOpen()) socket.send(JSON.stringify(event));
    },
    sendAudio: (pcm) => {
      if (isOpen()) socket.send(pcm);
    },
    useMicrophone: () => {},
    unsentAudioMs: () => socket.bufferedAmount / BYTES_PER_MS,
    close: () => {
      socket.onmessage = null;
      socket.onclose = null;
      socket.close(1000);
    },
  };
}

/**
 * @param {URL} url
 * @param {string} key
 * @throws {MalformedKey}
 */
function createSocket(url, key) {
  const protocols = key ? [SUBPROTOCOL, KEY_SUBPROTOCOL + key] : [SUBPROTOCOL];
  try {
    return new WebSocket(url, protocols);
  } catch (error) {
    if (key && error instanceof DOMException && error.name === "SyntaxError") {
      throw new MalformedKey("the key is no subprotocol token", { cause: error });
    }
    throw error;
  }
}
