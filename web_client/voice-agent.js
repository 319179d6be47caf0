// @ts-check
/**
 * The custom element `<voice-agent>`: joins microphone, conversation and view.
 *
 * Attributes are in `element-attributes.js`, events and their `detail` in `element-events.js`.
 */

import { shownActivity } from "./activity.js";
import { Conversation } from "./conversation.js";
import { saveFile } from "./dom.js";
import { AttributedElement, takeEarly } from "./element-attributes.js";
import { Teller, changesBetween } from "./element-events.js";
import { loadKey, saveKey } from "./key-store.js";
import { Kiosk } from "./kiosk.js";
import { MicrophoneControl } from "./microphone-control.js";
import { modeOf } from "./modes.js";
import { UNKNOWN_SERVER, fetchServerInfo } from "./server-info.js";
import { INITIAL, activityOf } from "./session.js";
import { talkWithSpace } from "./space-key.js";
import { FILE_NAME, textOf } from "./transcript.js";
import { createView } from "./view.js";

/** @typedef {import("./connection.js").ConnectionStatus} ConnectionStatus */

const COUNTDOWN_MS = 500;

/** Speech in, answers out, as one element. */
export class VoiceAgent extends AttributedElement {
  #view = createView(this.attachShadow({ mode: "open" }), {
    toggleMicrophone: () => void this.#toggleMicrophone(),
    startTalking: () => void this.#startTalking(),
    stopTalking: () => this.#conversation?.stopTalking(),
    setTurns: (turns) => {
      this.turns = turns;
    },
    chooseMicrophone: (id) => void this.#microphone.choose(id),
    mute: (isMuted) => this.#microphone.mute(isMuted),
    copy: () => this.copyConversation(),
    save: () => this.saveConversation(),
    sendText: (text) => this.sendText(text),
    stopAnswer: () => this.interrupt(),
    connect: () => this.#conversation?.connect(),
    useKey: (key) => {
      this.key = key;
    },
    chooseSource: (code) => {
      if (this.mode === "translation") this.sourceLanguage = code;
      else this.language = code;
    },
    chooseTarget: (code) => {
      this.language = code;
    },
    touch: () => this.#kiosk?.noteActivity(),
    tap: () => this.#kiosk?.tapped(),
  });
  #microphone = new MicrophoneControl({
    onChange: () => this.#update(),
    onStream: (stream) => this.#conversation?.useMicrophone(stream),
    onPiece: (pcm, level) => {
      this.#view.setLevel(level);
      this.#conversation?.hear(pcm);
    },
  });
  /** @type {Conversation | null} */
  #conversation = null;
  #space = new AbortController();
  #teller = new Teller(this);
  #info = UNKNOWN_SERVER;
  /** @type {Kiosk | null} */
  #kiosk = null;
  #frame = 0;
  #countdown = 0;

  // ---------------------------------------------------------------- for the integrator

  /**
   * The server's key or a client secret; kept until the tab is closed. Never an attribute.
   *
   * @param {string} value
   */
  set key(value) {
    const connection = this.#conversation?.connection;
    if (!connection) throw new Error("put the element into a page before its key is set");
    saveKey(connection.server, value);
    connection.key = value;
    connection.connect();
  }

  /** Whether the microphone runs but sends silence. */
  get muted() {
    return this.#microphone.isMuted;
  }

  /** Everything said and answered so far, oldest first; not to be changed. */
  get entries() {
    return this.#state.entries;
  }

  /** Everything translated so far, oldest first; not to be changed. */
  get passages() {
    return this.#state.passages;
  }

  /** What was said so far, as text; empty when it is nothing. */
  get conversationText() {
    return textOf(this.mode, this.#state);
  }

  /**
   * What is going on, as it is shown.
   *
   * @returns {import("./activity.js").Activity}
   */
  get activity() {
    const { turns = "hands-free", isTalking = false } = this.#conversation ?? {};
    const { mode } = this;
    const microphone = this.#microphone;
    return shownActivity({ session: this.#state, mode, turns, isTalking, microphone });
  }

  /**
   * Start the microphone; browsers want this to come from a click.
   *
   * @returns {Promise<boolean>} whether it runs now; if not, a `failure` event said why
   */
  async start() {
    this.#conversation?.connect();
    await this.#microphone.start();
    // Much may have happened while the person was asked for permission.
    const isWanted = this.#conversation?.connection.status.state !== "stopped";
    if (!this.isConnected || !isWanted) await this.#microphone.stop();
    return this.#microphone.isOn;
  }

  /** Stop the microphone and free the device. */
  async stop() {
    await this.#microphone.stop();
  }

  /** Send silence from now on; the device stays open. */
  mute() {
    this.#microphone.mute(true);
  }

  /** Send what is said again. */
  unmute() {
    this.#microphone.mute(false);
  }

  /**
   * Say something in writing, in a conversation; it waits while there is no connection.
   *
   * @param {string} text
   * @returns {boolean} false in other modes
   */
  sendText(text) {
    return this.#conversation?.sendText(text) ?? false;
  }

  /** End the answer in progress; harmless when there is none. */
  interrupt() {
    if (this.#state.response) this.#conversation?.cancelAnswer();
  }

  /** Forget everything that was said and begin a new session; the microphone stays as it is. */
  reset() {
    this.#conversation?.restart();
    this.#teller.tell("reset", null);
  }

  /**
   * Put the conversation into the clipboard.
   *
   * @returns {Promise<boolean>} false where the browser does not allow it
   */
  async copyConversation() {
    try {
      await navigator.clipboard.writeText(this.conversationText);
      return true;
    } catch (error) {
      console.info("the browser does not allow copying", error);
      return false;
    }
  }

  /** Save the conversation as a text file, where the browser puts downloads. */
  saveConversation() {
    saveFile(FILE_NAME[this.mode], this.conversationText);
  }

  // ---------------------------------------------------------------- called by the browser

  /** The element enters a page. */
  connectedCallback() {
    this.takeEarlyProperties();
    const server = this.#server();
    const key = takeEarly(this, "key");
    if (typeof key === "string") saveKey(server, key);
    const conversation = new Conversation(server, this.transport, {
      onChange: () => this.#update(),
      onStatus: (status) => this.#onStatus(status),
      onState: (before, after) => {
        for (const { type, detail } of changesBetween(before, after)) {
          this.#teller.tell(type, detail);
        }
      },
    });
    conversation.connection.key = loadKey(server);
    this.#conversation = conversation;
    conversation.configure(this);
    this.#microphone.watch();
    this.#space = talkWithSpace({
      isWanted: () => this.#conversation?.turns === "push-to-talk",
      onDown: () => void this.#startTalking(),
      onUp: () => this.#conversation?.stopTalking(),
    });
    conversation.connect();
    this.#watchKiosk();
  }

  /** The element leaves its page. */
  disconnectedCallback() {
    this.#kiosk?.stop();
    this.#kiosk = null;
    this.#space.abort();
    void this.#microphone.unwatch();
    this.#conversation?.close();
    this.#conversation = null;
  }

  /**
   * @param {string} name
   * @param {string | null} before
   * @param {string | null} after
   */
  attributeChangedCallback(name, before, after) {
    const conversation = this.#conversation;
    if (!conversation || before === after) return;
    switch (name) {
      case "mode":
        if (modeOf(before) !== this.mode) {
          conversation.configure(this);
          conversation.restart();
        }
        break;
      case "src":
      case "transport":
        this.#changeServer(conversation);
        break;
      case "kiosk":
      case "idle-seconds":
        this.#watchKiosk();
        break;
      case "turns":
        this.#microphone.mute(false);
        conversation.configure(this);
        break;
      default:
        conversation.configure(this);
    }
    this.#update();
  }

  // ---------------------------------------------------------------- what attributes do

  #server() {
    return new URL(this.src || "/", document.baseURI);
  }

  /**
   * The conversation goes on at another server, or over another transport.
   *
   * @param {Conversation} conversation
   */
  #changeServer({ connection }) {
    const server = this.#server();
    if (server.origin !== connection.server.origin) connection.key = loadKey(server);
    connection.moveTo(server, this.transport);
  }

  #watchKiosk() {
    this.#kiosk?.stop();
    this.#kiosk = null;
    if (!this.kiosk) return;
    this.#kiosk = new Kiosk(
      {
        isBusy: () => activityOf(this.#state) !== "quiet",
        hasContent: () => this.#state.entries.length > 0 || this.#state.passages.length > 0,
        needsStart: () => !this.#microphone.isOn && !this.#microphone.isStarting,
        start: () => void this.start(),
        reset: () => this.reset(),
        onChange: () => this.#update(),
      },
      this.idleSeconds,
    );
  }

  // ---------------------------------------------------------------- what happens

  get #state() {
    return this.#conversation?.state ?? INITIAL;
  }

  /** @param {ConnectionStatus} status */
  #onStatus(status) {
    clearInterval(this.#countdown);
    if (status.state === "waiting") {
      this.#countdown = setInterval(() => this.#update(), COUNTDOWN_MS);
    }
    if (status.state === "open") void this.#loadInfo();
    if (status.state !== "stopped") return;
    // At a kiosk nobody is there to press the button that begins anew.
    if (this.#kiosk && status.failure === "session-ended") queueMicrotask(() => this.reset());
    else void this.#microphone.stop();
  }

  async #loadInfo() {
    const connection = this.#conversation?.connection;
    if (!connection) return;
    const info = await fetchServerInfo(connection.server, connection.key);
    if (info.failure) return; // The connection finds out by itself, and says so.
    this.#info = info;
    this.#update();
  }

  async #toggleMicrophone() {
    if (this.#microphone.isStarting) return;
    if (this.#microphone.isOn) await this.stop();
    else await this.start();
  }

  /** The first time it switches the microphone on; what is said before it is on is not heard. */
  async #startTalking() {
    this.#conversation?.startTalking();
    if (!this.#microphone.isOn) await this.start();
  }

  // ---------------------------------------------------------------- telling and drawing

  /** Draw with the next frame; many events may come before it. */
  #update() {
    this.#tell();
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#conversation) this.#draw(this.#conversation);
    });
  }

  #tell() {
    const { connection, networkIsSlow } = this.#conversation ?? {};
    this.#teller.tellState({
      mode: this.mode,
      connection: connection?.status.state ?? "stopped",
      activity: this.activity,
      microphone: this.#microphone.isOn,
      muted: this.#microphone.isMuted,
    });
    const failures = [
      connection?.status.failure ?? null,
      connection?.notice ?? null,
      this.#microphone.failure,
      networkIsSlow ? /** @type {const} */ ("network-slow") : null,
    ];
    this.#teller.tellFailures(failures, this);
  }

  /** @param {Conversation} conversation */
  #draw(conversation) {
    const microphone = this.#microphone;
    if (!microphone.isOn) this.#view.setLevel(0);
    this.#view.render({
      mode: this.mode,
      kiosk: this.kiosk,
      needsTap: this.#kiosk?.needsTap ?? false,
      resetInS: this.#kiosk?.resetInS ?? null,
      session: conversation.state,
      connection: conversation.connection.status,
      activity: this.activity,
      turns: conversation.turns,
      isTalking: conversation.isTalking,
      speechWhileOffline: conversation.speechWhileOffline,
      transportNotice: conversation.connection.notice,
      microphoneIsOn: microphone.isOn,
      microphoneFailure: microphone.failure,
      microphoneIsMuted: microphone.isMuted,
      microphones: microphone.devices,
      microphoneId: microphone.currentId,
      networkIsSlow: conversation.networkIsSlow,
      info: this.#info,
      nowMs: performance.now(),
    });
  }
}
