// @ts-check
/**
 * The custom element `<voice-agent>`: joins microphone, conversation and view.
 *
 * Attribute `server`: address of the server, by default the one the page came from.
 * Attribute `transport`: `websocket` (by default) or `webrtc`.
 * Attribute `turns`: `hands-free` (by default) or `push-to-talk`.
 */

import { Conversation } from "./conversation.js";
import { loadKey, saveKey } from "./key-store.js";
import { MicrophoneControl } from "./microphone-control.js";
import { fetchServerInfo } from "./server-info.js";
import { INITIAL, activityOf } from "./session.js";
import { talkWithSpace } from "./space-key.js";
import { conversationText } from "./transcript.js";
import { createView } from "./view.js";

/** @typedef {import("./connection.js").ConnectionStatus} ConnectionStatus */
/** @typedef {import("./conversation.js").Turns} Turns */

const COUNTDOWN_MS = 500;
const FILE_NAME = "conversation.txt";

/** Speech in, answers out, as one element. */
export class VoiceAgent extends HTMLElement {
  #view = createView(this.attachShadow({ mode: "open" }), {
    toggleMicrophone: () => void this.#toggleMicrophone(),
    startTalking: () => void this.#startTalking(),
    stopTalking: () => this.#conversation?.stopTalking(),
    setTurns: (turns) => this.#setTurns(turns),
    chooseMicrophone: (id) => void this.#microphone.choose(id),
    mute: (isMuted) => this.#microphone.mute(isMuted),
    copy: () => this.copyConversation(),
    save: () => this.saveConversation(),
    sendText: (text) => this.#conversation?.sendText(text) ?? false,
    stopAnswer: () => this.#conversation?.cancelAnswer(),
    connect: () => this.#conversation?.connect(),
    useKey: (key) => this.#useKey(key),
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
  #note = "";
  #frame = 0;
  #countdown = 0;

  /** Called by the browser when the element enters a page. */
  connectedCallback() {
    const server = new URL(this.getAttribute("server") ?? "/", document.baseURI);
    const kind = this.getAttribute("transport") === "webrtc" ? "webrtc" : "websocket";
    const conversation = new Conversation(server, kind, {
      onChange: () => this.#update(),
      onStatus: (status) => this.#onStatus(status),
    });
    conversation.connection.key = loadKey(server);
    this.#conversation = conversation;
    if (this.getAttribute("turns") === "push-to-talk") conversation.setTurns("push-to-talk");
    this.#microphone.watch();
    this.#space = talkWithSpace({
      isWanted: () => this.#conversation?.turns === "push-to-talk",
      onDown: () => void this.#startTalking(),
      onUp: () => this.#conversation?.stopTalking(),
    });
    conversation.connect();
  }

  /** Called by the browser when the element leaves its page. */
  disconnectedCallback() {
    this.#space.abort();
    void this.#microphone.unwatch();
    this.#conversation?.close();
    this.#conversation = null;
  }

  /** What was said so far, as text; empty when it is nothing. */
  get conversationText() {
    return conversationText(this.#conversation?.state.entries ?? []);
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
    const url = URL.createObjectURL(new Blob([this.conversationText], { type: "text/plain" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = FILE_NAME;
    link.click();
    URL.revokeObjectURL(url);
  }

  /** @param {ConnectionStatus} status */
  #onStatus(status) {
    clearInterval(this.#countdown);
    if (status.state === "waiting") {
      this.#countdown = setInterval(() => this.#update(), COUNTDOWN_MS);
    }
    if (status.state === "open") void this.#loadNote();
    if (status.state === "stopped") void this.#microphone.stop();
  }

  async #loadNote() {
    const connection = this.#conversation?.connection;
    if (!connection) return;
    const info = await fetchServerInfo(connection.server, connection.key);
    if (info.failure) return; // The connection finds out by itself, and says so.
    this.#note = info.note;
    this.#update();
  }

  async #toggleMicrophone() {
    if (this.#microphone.isStarting) return;
    if (this.#microphone.isOn) await this.#microphone.stop();
    else await this.#startMicrophone();
  }

  async #startMicrophone() {
    this.#conversation?.connect();
    await this.#microphone.start();
    // Much may have happened while the person was asked for permission.
    const isWanted = this.#conversation?.connection.status.state !== "stopped";
    if (!this.isConnected || !isWanted) await this.#microphone.stop();
  }

  /** The first time it switches the microphone on; what is said before it is on is not heard. */
  async #startTalking() {
    this.#conversation?.startTalking();
    if (!this.#microphone.isOn) await this.#startMicrophone();
  }

  /** @param {Turns} turns */
  #setTurns(turns) {
    this.#microphone.mute(false);
    this.#conversation?.setTurns(turns);
  }

  /** @param {string} key */
  #useKey(key) {
    const connection = this.#conversation?.connection;
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
      if (this.#conversation) this.#draw(this.#conversation);
    });
  }

  /** @param {Conversation} conversation */
  #draw(conversation) {
    const microphone = this.#microphone;
    if (!microphone.isOn) this.#view.setLevel(0);
    this.#view.render({
      session: conversation.state,
      connection: conversation.connection.status,
      activity: this.#activity(),
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
      note: this.#note,
      nowMs: performance.now(),
    });
  }

  /** @returns {import("./view.js").Activity} */
  #activity() {
    const { state, turns, isTalking } = this.#conversation ?? { state: INITIAL };
    if (this.#microphone.isStarting && !this.#microphone.isOn) return "starting";
    if (!state.ready) return "offline";
    if (isTalking && this.#microphone.isOn) return "hearing";
    const activity = activityOf(state);
    if (activity !== "quiet") return activity;
    if (!this.#microphone.isOn) return "idle";
    if (turns === "push-to-talk") return "waiting";
    return this.#microphone.isMuted ? "muted" : "listening";
  }
}
