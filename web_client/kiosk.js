// @ts-check
/**
 * What a page without an attendant needs: it starts by itself, goes on by itself, and forgets
 * one visitor before the next one comes.
 */

import { microphoneIsAllowed } from "./devices.js";

/** Looked at this often, which is also how exact its times are. */
const STEP_MS = 500;
/** The reset is announced this long before, so that somebody who reads can keep the page. */
const WARN_MS = 10_000;
/** After a failure that nobody is there to mend, it is tried again this often. */
const RETRY_MS = 10_000;
/** A browser that lets sound start unasked does so within this time. */
const PROBE_MS = 1_000;

export const DEFAULT_IDLE_S = 60;

/**
 * @typedef {object} KioskHandlers
 * @property {() => boolean} isBusy somebody speaks or is answered at this moment
 * @property {() => boolean} hasContent there is something to forget
 * @property {() => boolean} needsStart the microphone ought to run and does not
 * @property {() => void} start start it
 * @property {() => void} reset forget everything, begin anew
 * @property {() => void} onChange `needsTap` or `resetInS` has changed
 */

/** Watches over one element while it is a kiosk. */
export class Kiosk {
  /**
   * @param {KioskHandlers} handlers
   * @param {number} idleS seconds without a word or a touch; 0 never resets
   */
  constructor(handlers, idleS) {
    this.handlers = handlers;
    this.idleS = idleS;
    /** A person must touch the page before the browser gives it sound. */
    this.needsTap = false;
    /** @type {number | null} seconds until the reset, once that is near */
    this.resetInS = null;
    this.lastActiveMs = performance.now();
    this.lastTryMs = -Infinity;
    this.mayStart = false;
    this.timer = setInterval(() => this.#step(), STEP_MS);
    void this.#begin();
  }

  /** Somebody is there. */
  noteActivity() {
    this.lastActiveMs = performance.now();
    if (this.resetInS === null) return;
    this.resetInS = null;
    this.handlers.onChange();
  }

  /** A person has touched the page: everything may start now. */
  tapped() {
    this.needsTap = false;
    this.mayStart = true;
    this.noteActivity();
    this.#tryToStart();
    this.handlers.onChange();
  }

  /** Watch no more. */
  stop() {
    clearInterval(this.timer);
    this.mayStart = false;
  }

  async #begin() {
    const timer = this.timer;
    const may = await mayStartUnasked();
    if (timer !== this.timer || this.mayStart) return;
    this.mayStart = may;
    this.needsTap = !may;
    if (may) this.#tryToStart();
    this.handlers.onChange();
  }

  #tryToStart() {
    if (!this.handlers.needsStart()) return;
    this.lastTryMs = performance.now();
    this.handlers.start();
  }

  #step() {
    const nowMs = performance.now();
    if (this.mayStart && nowMs - this.lastTryMs >= RETRY_MS) this.#tryToStart();
    const { isBusy, hasContent, reset, onChange } = this.handlers;
    if (isBusy() || !hasContent() || this.idleS <= 0) {
      this.noteActivity();
      return;
    }
    const leftMs = this.lastActiveMs + this.idleS * 1000 - nowMs;
    if (leftMs <= 0) {
      this.noteActivity();
      reset();
      return;
    }
    const resetInS = leftMs <= WARN_MS ? Math.ceil(leftMs / 1000) : null;
    if (resetInS === this.resetInS) return;
    this.resetInS = resetInS;
    onChange();
  }
}

/**
 * Whether this browser gives the page microphone and sound without a touch or a question: the
 * permission was given before, and its autoplay rule lets an audio graph run.
 *
 * @returns {Promise<boolean>}
 */
async function mayStartUnasked() {
  if (!(await microphoneIsAllowed())) return false;
  if (typeof AudioContext === "undefined") return false;
  const context = new AudioContext();
  const runs = await new Promise((settle) => {
    const look = () => context.state === "running" && settle(true);
    context.onstatechange = look;
    look();
    setTimeout(() => settle(false), PROBE_MS);
  });
  void context.close(); // one that has not started may never say that it is closed
  return runs;
}
