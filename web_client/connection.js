// @ts-check
/** Keeps one connection to the server: opens it, says why it ended, tries again. */

import { SERVER_EVENT } from "./messages.js";
import { sessionUrl } from "./modes.js";
import { fetchServerInfo } from "./server-info.js";
import { openWebRtc, webRtcIsThere } from "./transport-rtc.js";
import { MalformedKey, openWebSocket } from "./transport-ws.js";

/** @typedef {import("./messages.js").Failure} Failure */
/** @typedef {import("./transport-ws.js").Ending} Ending */
/** @typedef {import("./transport-ws.js").Transport} Transport */

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 10_000;
/** A network that is this far behind does not catch up within a conversation. */
const MOST_UNSENT_AUDIO_MS = 5_000;
/** Up to this share is added to each wait, so that many pages do not come back as one. */
const RETRY_JITTER = 0.25;

/**
 * `connecting`: on the way; `open`: events flow; `waiting`: for the next attempt;
 * `stopped`: a person must do something first.
 *
 * @typedef {object} ConnectionStatus
 * @property {"connecting" | "open" | "waiting" | "stopped"} state
 * @property {Failure | null} failure why it is not open
 * @property {number | null} retryAtMs on the clock of `performance.now()`, while waiting
 */

/**
 * @typedef {object} ConnectionHandlers
 * @property {(status: ConnectionStatus) => void} onStatus
 * @property {(event: any) => void} onEvent one server event
 */

/** Failures that trying again cannot heal. */
const FINAL = new Set(
  /** @type {Failure[]} */ ([
    "key-missing",
    "key-wrong",
    "key-malformed",
    "server-refused",
    "session-ended",
  ]),
);

/** A connection that is kept. */
export class Connection {
  /**
   * @param {URL} server the server's address, http or https
   * @param {"websocket" | "webrtc"} kind of transport
   * @param {ConnectionHandlers} handlers
   */
  constructor(server, kind, handlers) {
    this.server = server;
    this.kind = kind;
    /** Why another kind is used than was asked for. @type {Failure | null} */
    this.notice = null;
    /** @type {import("./modes.js").Mode} */
    this.mode = "conversation";
    /** @type {MediaStream | null} */
    this.microphone = null;
    this.handlers = handlers;
    this.key = "";
    /** @type {Transport | null} */
    this.transport = null;
    this.failedAttempts = 0;
    this.retryTimer = 0;
    /** @type {ConnectionStatus} */
    this.status = { state: "stopped", failure: null, retryAtMs: null };
  }

  /** Connect now, unless connected or about to be. */
  connect() {
    if (this.transport) return;
    clearTimeout(this.retryTimer);
    if (this.kind === "webrtc" && !webRtcIsThere()) this.#fallBack();
    this.#setStatus("connecting", this.status.failure);
    /** @type {Transport} */
    let transport;
    try {
      const open = this.kind === "webrtc" ? openWebRtc : openWebSocket;
      transport = open(sessionUrl(this.mode, this.kind, this.server), this.key, {
        onEvent: (event) => this.#receive(event),
        onEnded: (ending) => void this.#ended(transport, ending),
      });
    } catch (error) {
      if (!(error instanceof MalformedKey)) throw error;
      this.#setStatus("stopped", "key-malformed");
      return;
    }
    this.transport = transport;
    transport.useMicrophone(this.microphone);
  }

  /**
   * Speak with this microphone from now on; null for none.
   *
   * @param {MediaStream | null} stream
   */
  useMicrophone(stream) {
    this.microphone = stream;
    this.transport?.useMicrophone(stream);
  }

  /**
   * Send one event; does nothing while not connected.
   *
   * @param {object} event
   */
  sendEvent(event) {
    this.transport?.sendEvent(event);
  }

  /**
   * Send sound, unless too much of it waits for the network already.
   *
   * @param {ArrayBuffer} pcm PCM16 mono 24 kHz
   * @returns {boolean} false when it was left out
   */
  sendAudio(pcm) {
    if (!this.transport || this.transport.unsentAudioMs() > MOST_UNSENT_AUDIO_MS) return false;
    this.transport.sendAudio(pcm);
    return true;
  }

  /**
   * Go on at another server, or over another transport.
   *
   * @param {URL} server
   * @param {"websocket" | "webrtc"} kind of transport
   */
  moveTo(server, kind) {
    this.server = server;
    this.kind = kind;
    this.notice = null;
    this.restart();
  }

  /** Begin anew: another session, whatever there was. */
  restart() {
    clearTimeout(this.retryTimer);
    this.transport?.close();
    this.transport = null;
    this.failedAttempts = 0;
    this.status = { state: "connecting", failure: null, retryAtMs: null };
    this.connect();
  }

  /** Disconnect and stay so. */
  close() {
    clearTimeout(this.retryTimer);
    this.transport?.close();
    this.transport = null;
    this.#setStatus("stopped", null);
  }

  /** @param {any} event */
  #receive(event) {
    if (this.status.state !== "open") {
      // An error before the session is a refusal; the close code that follows says which.
      if (event.type === SERVER_EVENT.error) return;
      this.failedAttempts = 0;
      this.#setStatus("open", null);
    }
    this.handlers.onEvent(event);
  }

  /**
   * @param {Transport} transport
   * @param {Ending} ending
   */
  async #ended(transport, ending) {
    const hadSession = this.status.state === "open";
    // Events of a session that is over must not be answered while the reason is looked up.
    if (hadSession) this.#setStatus("connecting", null);
    let failure = ending.failure;
    if (!failure) {
      failure = ending.opened
        ? failureOfClose(ending.code, hadSession)
        : await this.#failureOfRefusal();
    }
    if (failure === "key-wrong" && !this.key) failure = "key-missing";
    if (this.transport !== transport) return;
    this.transport = null;
    if (failure === "webrtc-blocked") {
      this.#fallBack();
      this.connect();
    } else if (FINAL.has(failure)) this.#setStatus("stopped", failure);
    else this.#retryLater(failure);
  }

  /** A WebSocket gets through wherever the page itself did. */
  #fallBack() {
    this.kind = "websocket";
    this.notice = "webrtc-blocked";
  }

  /** @returns {Promise<Failure>} */
  async #failureOfRefusal() {
    const { failure } = await fetchServerInfo(this.server, this.key);
    // Over HTTP the server answers: what was refused is the other way.
    return failure ?? (this.kind === "webrtc" ? "webrtc-blocked" : "server-refused");
  }

  /** @param {Failure} failure */
  #retryLater(failure) {
    const waitMs = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** this.failedAttempts);
    const delayMs = waitMs * (1 + RETRY_JITTER * Math.random());
    this.failedAttempts += 1;
    this.retryTimer = setTimeout(() => this.connect(), delayMs);
    this.#setStatus("waiting", failure, performance.now() + delayMs);
  }

  /**
   * @param {ConnectionStatus["state"]} state
   * @param {Failure | null} failure
   * @param {number | null} retryAtMs
   */
  #setStatus(state, failure, retryAtMs = null) {
    this.status = { state, failure, retryAtMs };
    this.handlers.onStatus(this.status);
  }
}

/**
 * @param {number} code of RFC 6455 and IANA's registry; 4401 is the usual private "no key"
 * @param {boolean} hadSession whether the conversation had begun
 * @returns {Failure}
 */
function failureOfClose(code, hadSession) {
  switch (code) {
    case 1000:
      return "session-ended";
    case 1001:
      return "server-restarting";
    case 1011:
      return hadSession ? "server-failed" : "engine-failed";
    case 1012:
      return hadSession ? "server-restarting" : "engine-starting";
    case 1008:
      return hadSession ? "session-ended" : "server-refused";
    case 1013:
      return hadSession ? "network-slow" : "server-full";
    case 3000:
    case 4401:
      return "key-wrong";
    default:
      return "server-gone";
  }
}
