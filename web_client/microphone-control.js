// @ts-check
/** The microphone as a person handles it: on and off, muted, another one, pulled out. */

import {
  chosenMicrophone,
  listMicrophones,
  microphoneIsAllowed,
  rememberMicrophone,
} from "./devices.js";
import { Microphone, MicrophoneError, microphoneObstacle } from "./microphone.js";

/** @typedef {import("./devices.js").Device} Device */
/** @typedef {import("./messages.js").Failure} Failure */

/** Most microphones open sooner, and what is said of the question would only flash. */
const ASKING_AFTER_MS = 500;

/**
 * @typedef {object} MicrophoneControlHandlers
 * @property {() => void} onChange something that is shown is another
 * @property {(stream: MediaStream | null) => void} onStream speak with this from now on
 * @property {(pcm: ArrayBuffer, level: number) => void} onPiece see `Microphone`
 */

export class MicrophoneControl {
  /** @param {MicrophoneControlHandlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    /** @type {Microphone | null} */
    this.microphone = null;
    this.isStarting = false;
    /** The browser asks the person, and nothing goes on before the answer. */
    this.isAsking = false;
    this.isMuted = false;
    /** @type {Failure | null} */
    this.failure = microphoneObstacle();
    /** @type {readonly Device[]} */
    this.devices = [];
    this.chosenId = chosenMicrophone();
    /** Counts what was asked for: a microphone that opens after that is not wanted any more. */
    this.attempt = 0;
    this.refresh = () => void this.#listDevices();
  }

  get isOn() {
    return this.microphone !== null;
  }

  /** The device that is used; the one to be used, while it is off. */
  get currentId() {
    return this.microphone?.deviceId || this.chosenId;
  }

  /** Begin to follow what is plugged in. */
  watch() {
    navigator.mediaDevices?.addEventListener?.("devicechange", this.refresh);
  }

  /** Switch it off, and follow no more. */
  async unwatch() {
    navigator.mediaDevices?.removeEventListener?.("devicechange", this.refresh);
    await this.stop();
  }

  /** Switch it on; call it from a click. */
  async start() {
    if (this.isOn || this.isStarting) return;
    this.failure = null;
    await this.#open(null);
  }

  /** Switch it off; harmless when it is. */
  async stop() {
    this.attempt += 1;
    const { microphone } = this;
    this.microphone = null;
    this.isStarting = false;
    this.isAsking = false;
    this.isMuted = false;
    if (this.failure === "microphone-silent") this.failure = null;
    this.handlers.onStream(null);
    this.handlers.onChange();
    await microphone?.stop();
  }

  /**
   * Use this one from now on, and the next time. The old one is heard until the new one is there.
   *
   * @param {string} id
   */
  async choose(id) {
    this.chosenId = id;
    rememberMicrophone(id);
    this.failure = null;
    if (this.isOn) await this.#open(null);
    else this.handlers.onChange();
  }

  /** @param {boolean} isMuted silence is sent; the device stays open */
  mute(isMuted) {
    this.isMuted = isMuted;
    this.microphone?.mute(isMuted);
    this.handlers.onChange();
  }

  /** @param {Failure | null} notice what to say when it has worked */
  async #open(notice) {
    this.attempt += 1;
    const attempt = this.attempt;
    const isWanted = () => attempt === this.attempt;
    const answered = watchQuestion((isAsking) => {
      if (!isWanted() || isAsking === this.isAsking) return;
      this.isAsking = isAsking;
      this.handlers.onChange();
    });
    this.isStarting = true;
    this.handlers.onChange();
    try {
      const microphone = await Microphone.start(
        {
          onStream: (stream) => {
            answered();
            if (isWanted()) this.handlers.onStream(stream);
          },
          onPiece: (pcm, level) => this.#onPiece(pcm, level),
          onSilent: () => this.#fail("microphone-silent"),
          onLost: () => void this.#onLost(),
        },
        this.chosenId,
      );
      if (!isWanted()) return await microphone.stop();
      void this.microphone?.stop();
      this.microphone = microphone;
      microphone.mute(this.isMuted);
      this.failure = notice;
    } catch (error) {
      if (!(error instanceof MicrophoneError)) throw error;
      if (!isWanted()) return;
      // Of a change that failed, the microphone that was there remains.
      this.handlers.onStream(this.microphone?.stream ?? null);
      this.failure = notice === null ? error.failure : "microphone-lost";
    } finally {
      answered();
      if (isWanted()) this.isStarting = false;
      this.handlers.onChange();
    }
    await this.#listDevices();
  }

  /** Go on with a microphone that is left, if there is one. */
  async #onLost() {
    this.microphone = null;
    await this.#open("microphone-changed");
  }

  /**
   * @param {ArrayBuffer} pcm
   * @param {number} level
   */
  #onPiece(pcm, level) {
    if (this.failure === "microphone-silent" && level > 0) this.#fail(null);
    this.handlers.onPiece(pcm, level);
  }

  /** @param {Failure | null} failure */
  #fail(failure) {
    this.failure = failure;
    this.handlers.onChange();
  }

  async #listDevices() {
    this.devices = await listMicrophones();
    this.handlers.onChange();
  }
}

/**
 * Find out whether the browser asks the person for the microphone that is being opened.
 *
 * @param {(isAsking: boolean) => void} note
 * @returns {() => void} to be called when it is open, or is not to be had
 */
function watchQuestion(note) {
  let isOver = false;
  const timer = setTimeout(async () => {
    if (!(await microphoneIsAllowed()) && !isOver) note(true);
  }, ASKING_AFTER_MS);
  return () => {
    isOver = true;
    clearTimeout(timer);
    note(false);
  };
}
