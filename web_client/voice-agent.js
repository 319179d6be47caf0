// @ts-check
/**
 * The custom element `<voice-agent>`: joins microphone, connection, conversation and view.
 *
 * Attribute `server`: address of the server, by default the one the page came from.
 * Attribute `transport`: `websocket` (by default) or `webrtc`.
 */

import { Connection } from "./connection.js";
import { loadKey, saveKey } from "./key-store.js";
import { CLIENT_EVENT, SERVER_EVENT } from "./messages.js";
import { Microphone, MicrophoneError, microphoneObstacle } from "./microphone.js";
import { WIRE_RATE_HZ } from "./pcm.js";
import { fetchServerInfo } from "./server-info.js";
import { INITIAL, activityOf, disconnect, reduce } from "./session.js";
import { createView } from "./view.js";

/** @typedef {import("./connection.js").ConnectionStatus} ConnectionStatus */
/** @typedef {import("./messages.js").Failure} Failure */

const COUNTDOWN_MS = 500;

/** What this page needs of a session; everything else is the server's choice. */
const SESSION = {
  type: "realtime",
  output_modalities: ["text"],
  audio: {
    input: { format: { type: "audio/pcm", rate: WIRE_RATE_HZ }, transcription: {} },
  },
};

/** Speech in, answers out, as one element. */
export class VoiceAgent extends HTMLElement {
  #view = createView(this.attachShadow({ mode: "open" }), {
    toggleMicrophone: () => void this.#toggleMicrophone(),
    sendText: (text) => this.#sendText(text),
    stopAnswer: () => this.#connection?.sendEvent({ type: CLIENT_EVENT.responseCancel }),
    connect: () => this.#connection?.connect(),
    useKey: (key) => this.#useKey(key),
  });
  #session = INITIAL;
  /** @type {Connection | null} */
  #connection = null;
  /** @type {Microphone | null} */
  #microphone = null;
  #microphoneStarting = false;
  /** @type {Failure | null} */
  #microphoneFailure = null;
  #networkIsSlow = false;
  #note = "";
  #frame = 0;
  #countdown = 0;

  /** Called by the browser when the element enters a page. */
  connectedCallback() {
    const server = new URL(this.getAttribute("server") ?? "/", document.baseURI);
    const kind = this.getAttribute("transport") === "webrtc" ? "webrtc" : "websocket";
    const connection = new Connection(server, kind, {
      onStatus: (status) => this.#onStatus(status),
      onEvent: (event) => this.#onEvent(event),
    });
    connection.key = loadKey(server);
    this.#connection = connection;
    this.#microphoneFailure = microphoneObstacle();
    connection.connect();
  }

  /** Called by the browser when the element leaves its page. */
  disconnectedCallback() {
    void this.#stopMicrophone();
    this.#connection?.close();
    this.#connection = null;
  }

  /** @param {ConnectionStatus} status */
  #onStatus(status) {
    clearInterval(this.#countdown);
    if (status.state === "waiting") {
      this.#countdown = setInterval(() => this.#update(), COUNTDOWN_MS);
    }
    if (status.state !== "open") this.#session = disconnect(this.#session);
    else void this.#loadNote();
    if (status.state === "stopped") void this.#stopMicrophone();
    this.#update();
  }

  async #loadNote() {
    const connection = this.#connection;
    if (!connection) return;
    const info = await fetchServerInfo(connection.server, connection.key);
    if (info.failure) return; // The connection finds out by itself, and says so.
    this.#note = info.note;
    this.#update();
  }

  /** @param {any} event */
  #onEvent(event) {
    this.#session = reduce(this.#session, event, performance.now());
    if (event.type === SERVER_EVENT.sessionCreated) {
      this.#connection?.sendEvent({ type: CLIENT_EVENT.sessionUpdate, session: SESSION });
    }
    this.#update();
  }

  async #toggleMicrophone() {
    if (this.#microphoneStarting) return;
    if (this.#microphone) {
      await this.#stopMicrophone();
      return;
    }
    this.#microphoneStarting = true;
    this.#microphoneFailure = null;
    this.#connection?.connect();
    this.#update();
    try {
      this.#microphone = await Microphone.start({
        onStream: (stream) => this.#connection?.useMicrophone(stream),
        onPiece: (pcm, level) => this.#onPiece(pcm, level),
        onSilent: () => this.#failMicrophone("microphone-silent"),
        onLost: () => {
          this.#microphone = null;
          this.#connection?.useMicrophone(null);
          this.#failMicrophone("microphone-lost");
        },
      });
    } catch (error) {
      if (!(error instanceof MicrophoneError)) throw error;
      this.#failMicrophone(error.failure);
    } finally {
      this.#microphoneStarting = false;
    }
    if (!this.#microphone) this.#connection?.useMicrophone(null);
    // Much may have happened while the person was asked for permission.
    const isWanted = this.isConnected && this.#connection?.status.state !== "stopped";
    if (!isWanted) await this.#stopMicrophone();
    this.#update();
  }

  async #stopMicrophone() {
    const microphone = this.#microphone;
    this.#microphone = null;
    this.#connection?.useMicrophone(null);
    this.#networkIsSlow = false;
    if (this.#microphoneFailure === "microphone-silent") this.#microphoneFailure = null;
    this.#view.setLevel(0);
    this.#update();
    await microphone?.stop();
  }

  /** @param {Failure} failure */
  #failMicrophone(failure) {
    this.#microphoneFailure = failure;
    this.#view.setLevel(0);
    this.#update();
  }

  /**
   * @param {ArrayBuffer} pcm
   * @param {number} level
   */
  #onPiece(pcm, level) {
    this.#view.setLevel(level);
    if (this.#microphoneFailure === "microphone-silent" && level > 0) {
      this.#microphoneFailure = null;
      this.#update();
    }
    if (!this.#session.ready || !this.#connection) return;
    const isSlow = !this.#connection.sendAudio(pcm);
    if (isSlow !== this.#networkIsSlow) {
      this.#networkIsSlow = isSlow;
      this.#update();
    }
  }

  /** @param {string} text */
  #sendText(text) {
    const connection = this.#connection;
    if (!connection || !this.#session.ready) return false;
    if (this.#session.response) connection.sendEvent({ type: CLIENT_EVENT.responseCancel });
    connection.sendEvent({
      type: CLIENT_EVENT.itemCreate,
      item: { type: "message", role: "user", content: [{ type: "input_text", text }] },
    });
    connection.sendEvent({ type: CLIENT_EVENT.responseCreate });
    return true;
  }

  /** @param {string} key */
  #useKey(key) {
    const connection = this.#connection;
    if (!connection) return;
    saveKey(connection.server, key);
    connection.key = key;
    connection.connect();
  }

  /** Draw with the next frame; many events may come before it. */
  #update() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#connection) this.#draw(this.#connection.status);
    });
  }

  /** @param {ConnectionStatus} connection */
  #draw(connection) {
    this.#view.render({
      session: this.#session,
      connection,
      activity: this.#activity(),
      microphoneIsOn: this.#microphone !== null,
      microphoneFailure: this.#microphoneFailure,
      networkIsSlow: this.#networkIsSlow,
      note: this.#note,
      nowMs: performance.now(),
    });
  }

  /** @returns {import("./view.js").Activity} */
  #activity() {
    if (this.#microphoneStarting) return "starting";
    if (!this.#session.ready) return "offline";
    const activity = activityOf(this.#session);
    if (activity !== "quiet") return activity;
    return this.#microphone ? "listening" : "idle";
  }
}
