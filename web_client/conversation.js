// @ts-check
/**
 * One conversation over any number of connections: what is sent, and when.
 *
 * Sets each session up, tells it what was said in the one before, keeps what is said until it can
 * be sent, and ends turns for a person who holds a button down.
 */

import { Connection } from "./connection.js";
import { itemEvent } from "./item-event.js";
import { CLIENT_EVENT, SERVER_EVENT } from "./messages.js";
import { sessionSettings, sourceSettings, targetSettings } from "./modes.js";
import { Outbox } from "./outbox.js";
import { INITIAL, addTyped, disconnect, reduce } from "./session.js";
import { recreateEvents } from "./transcript.js";
import { waitingEvents } from "./typed.js";

/** @typedef {import("./connection.js").ConnectionStatus} ConnectionStatus */
/** @typedef {import("./modes.js").Languages} Languages */
/** @typedef {import("./session.js").SessionState} SessionState */

/**
 * Who ends a turn: the server, by a pause, or the person, by letting go of a button.
 *
 * @typedef {"hands-free" | "push-to-talk"} Turns
 */

/** What is said while there is no connection is kept up to this length. */
const MOST_KEPT_MS = 30_000;
/** People let go with their last word: so long the microphone is still listened to. */
const RELEASE_TAIL_MS = 200;
/** Whoever holds a button for less has not spoken. */
const SHORTEST_TURN_MS = 300;

/**
 * @typedef {object} ConversationHandlers
 * @property {() => void} onChange something that is shown is another
 * @property {(status: ConnectionStatus) => void} onStatus
 * @property {(before: SessionState, after: SessionState) => void} onState
 */

export class Conversation {
  /**
   * @param {URL} server the server's address, http or https
   * @param {"websocket" | "webrtc"} kind of transport
   * @param {ConversationHandlers} handlers
   */
  constructor(server, kind, handlers) {
    this.handlers = handlers;
    this.state = INITIAL;
    /** @type {Turns} */
    this.turns = "hands-free";
    /** @type {Languages} */
    this.languages = { source: "", target: "" };
    /** The button is held down, or was until a moment ago. */
    this.isTalking = false;
    this.networkIsSlow = false;
    this.connection = new Connection(server, kind, {
      onStatus: (status) => this.#onStatus(status),
      onEvent: (event) => this.#onEvent(event),
    });
    /** @type {MediaStream | null} */
    this.microphone = null;
    this.outbox = new Outbox(MOST_KEPT_MS);
    this.talkingSinceMs = 0;
    this.releaseTimer = 0;
    /** How the server finds turns unless told otherwise. */
    this.detection = null;
    /** How many messages were typed; part of their ids. */
    this.typed = 0;
  }

  /** Sound can be kept until it can be sent; a WebRTC track is only heard while it is connected. */
  get keepsSpeech() {
    return this.connection.kind === "websocket";
  }

  /**
   * What becomes of what is said while there is no connection.
   *
   * @returns {"kept" | "trimmed" | "lost"} `trimmed`: only the last of it is kept
   */
  get speechWhileOffline() {
    if (!this.keepsSpeech) return "lost";
    return this.outbox.lostMs > 0 ? "trimmed" : "kept";
  }

  connect() {
    this.connection.connect();
  }

  /** Forget everything that was said and begin a session anew, with what is set now. */
  restart() {
    this.#endTalking();
    this.outbox.clear();
    this.state = INITIAL;
    this.connection.restart();
  }

  close() {
    this.#endTalking();
    this.outbox.clear();
    this.connection.close();
  }

  /**
   * Speak with this microphone from now on; null for none.
   *
   * @param {MediaStream | null} stream
   */
  useMicrophone(stream) {
    this.microphone = stream;
    if (stream === null) this.networkIsSlow = false;
    this.#attachMicrophone();
  }

  /** @param {ArrayBuffer} pcm 40 ms of PCM16 mono 24 kHz */
  hear(pcm) {
    if (!this.keepsSpeech) return; // the track carries it
    if (this.turns === "push-to-talk" && !this.isTalking) return;
    if (this.state.ready && this.outbox.isEmpty) {
      this.#noteNetwork(!this.connection.sendAudio(pcm));
      return;
    }
    const { lostMs } = this.outbox;
    this.outbox.push(pcm);
    const isLosing = this.outbox.lostMs > lostMs;
    this.#drain();
    if (this.state.ready) this.#noteNetwork(isLosing);
    else if (isLosing && lostMs === 0) this.handlers.onChange();
  }

  /**
   * Say something in writing; it waits while there is no connection, behind what was said before.
   *
   * @param {string} text
   * @returns {boolean} false where nothing can be said in writing
   */
  sendText(text) {
    if (this.mode !== "conversation") return false;
    this.typed += 1;
    const id = `typed_${this.typed}`;
    this.#become(addTyped(this.state, id, text));
    if (this.state.response) this.cancelAnswer();
    // A session that is not there yet is told all that waits when it is.
    if (this.connection.status.state === "open" || !this.outbox.isEmpty) {
      // What was said before it may be being answered when it is sent.
      if (!this.outbox.isEmpty) this.outbox.push({ type: CLIENT_EVENT.responseCancel });
      this.outbox.push(itemEvent({ id, role: "user", text }));
      this.outbox.push({ type: CLIENT_EVENT.responseCreate });
      this.#drain();
    }
    this.handlers.onChange();
    return true;
  }

  get mode() {
    return this.connection.mode;
  }

  /**
   * Take over what the element's attributes say; another mode counts from the next session on.
   *
   * @param {object} wanted
   * @param {import("./modes.js").Mode} wanted.mode
   * @param {string} wanted.language
   * @param {string} wanted.sourceLanguage
   * @param {Turns} wanted.turns
   */
  configure({ mode, language, sourceLanguage, turns }) {
    const translates = mode === "translation";
    const languages = translates
      ? { source: sourceLanguage, target: language }
      : { source: language, target: "" };
    const modeChanges = this.connection.mode !== mode;
    this.connection.mode = mode;
    if (modeChanges) this.languages = languages;
    else this.setLanguages(languages);
    // Only a conversation has turns that a person could end.
    this.setTurns(mode === "conversation" ? turns : "hands-free");
  }

  /** @param {Languages} languages each counts at once, where it has changed */
  setLanguages({ source, target }) {
    const before = this.languages;
    this.languages = { source, target };
    if (!this.state.ready) return; // They are part of what a session begins with.
    if (source !== before.source) this.#updateSession(sourceSettings(this.mode, source));
    if (target === before.target || this.mode !== "translation") return;
    // The server's own choice is that of a new session.
    if (target) this.#updateSession(targetSettings(target));
    else this.connection.restart();
  }

  cancelAnswer() {
    this.connection.sendEvent({ type: CLIENT_EVENT.responseCancel });
  }

  /** @param {Turns} turns */
  setTurns(turns) {
    if (turns === this.turns) return;
    this.#endTalking();
    this.turns = turns;
    if (this.connection.status.state === "open") this.#sendSettings(true);
    this.#attachMicrophone();
    this.handlers.onChange();
  }

  /** The button goes down: what is said from now on is a turn, and an answer is interrupted. */
  startTalking() {
    if (this.turns !== "push-to-talk") return;
    if (this.releaseTimer) this.#finishTurn();
    if (this.isTalking) return;
    this.isTalking = true;
    this.talkingSinceMs = performance.now();
    if (this.state.response) this.cancelAnswer();
    // What is asked for when there is a connection again may be in progress when this turn ends.
    else if (!this.state.ready) this.#sendInOrder({ type: CLIENT_EVENT.responseCancel });
    this.#sendInOrder({ type: CLIENT_EVENT.audioClear });
    this.#attachMicrophone();
    this.handlers.onChange();
  }

  /** The button is let go: the turn is over, but for its last sounds. */
  stopTalking() {
    if (!this.isTalking || this.releaseTimer) return;
    this.releaseTimer = setTimeout(() => this.#finishTurn(), RELEASE_TAIL_MS);
  }

  #finishTurn() {
    const lengthMs = performance.now() - this.talkingSinceMs - RELEASE_TAIL_MS;
    this.#endTalking();
    if (lengthMs < SHORTEST_TURN_MS) {
      this.#sendInOrder({ type: CLIENT_EVENT.audioClear });
    } else {
      this.#sendInOrder({ type: CLIENT_EVENT.audioCommit });
      this.#sendInOrder({ type: CLIENT_EVENT.responseCreate });
    }
    this.handlers.onChange();
  }

  #endTalking() {
    clearTimeout(this.releaseTimer);
    this.releaseTimer = 0;
    this.isTalking = false;
    this.#attachMicrophone();
  }

  /**
   * A server that is left to itself hears everything that comes in a track, silence too: while
   * the button is up, it gets none.
   */
  #attachMicrophone() {
    const isHeard = this.turns === "hands-free" || this.isTalking;
    this.connection.useMicrophone(isHeard ? this.microphone : null);
  }

  /** @param {object} event that belongs after the sound before it */
  #sendInOrder(event) {
    if (this.keepsSpeech) this.outbox.push(event);
    else if (this.state.ready) this.connection.sendEvent(event);
    this.#drain();
  }

  #drain() {
    if (!this.state.ready) return;
    this.outbox.drain((what) => {
      if (what instanceof ArrayBuffer) return this.connection.sendAudio(what);
      this.connection.sendEvent(what);
      return true;
    });
  }

  /** @param {boolean} isSlow */
  #noteNetwork(isSlow) {
    if (isSlow === this.networkIsSlow) return;
    this.networkIsSlow = isSlow;
    this.handlers.onChange();
  }

  /** @param {ConnectionStatus} status */
  #onStatus(status) {
    if (status.state !== "open") {
      const isOver = status.failure === "session-ended";
      if (isOver) this.outbox.clear();
      this.#become(disconnect(this.state, !isOver && this.state.continues));
    }
    this.handlers.onStatus(status);
    this.handlers.onChange();
  }

  /** @param {any} event */
  #onEvent(event) {
    const { continues, unanswered } = this.state;
    this.#become(reduce(this.state, event, performance.now()));
    if (event.type === SERVER_EVENT.sessionCreated) {
      this.detection = event.session.audio?.input?.turn_detection ?? { type: "server_vad" };
      this.#sendSettings(this.turns === "push-to-talk");
      if (this.mode === "conversation") this.#tell(continues, unanswered);
    } else if (event.type === SERVER_EVENT.sessionUpdated) {
      this.#drain();
    }
    this.handlers.onChange();
  }

  /**
   * Tell a new session what it has to know.
   *
   * @param {boolean} continues it goes on with what was said before
   * @param {boolean} unanswered the last of that waits for an answer
   */
  #tell(continues, unanswered) {
    const before = continues ? recreateEvents(this.state.entries) : [];
    const entries = this.state.entries.filter(({ id }) => !this.outbox.holds(id));
    const waiting = waitingEvents(entries);
    const isAsked = waiting.length > 0 || (unanswered && before.length > 0);
    const ask = isAsked ? [{ type: CLIENT_EVENT.responseCreate }] : [];
    this.#sendAll([...before, ...waiting, ...ask]);
  }

  /** @param {readonly object[]} events */
  #sendAll(events) {
    for (const event of events) this.connection.sendEvent(event);
  }

  /**
   * What this page needs of a session; everything else is the server's choice.
   *
   * @param {boolean} setsTurns say who ends turns, too
   */
  #sendSettings(setsTurns) {
    const detection = this.turns === "push-to-talk" ? null : this.detection;
    const settings = sessionSettings(this.mode, this.languages, setsTurns ? detection : undefined);
    for (const session of settings) this.#updateSession(session);
  }

  /** @param {object} session */
  #updateSession(session) {
    this.connection.sendEvent({ type: CLIENT_EVENT.sessionUpdate, session });
  }

  /** @param {SessionState} state */
  #become(state) {
    const before = this.state;
    this.state = state;
    this.handlers.onState(before, state);
  }
}
