// @ts-check
/** What waits for a connection: sound, and events that must keep their place among it. */

import { WIRE_RATE_HZ } from "./pcm.js";

const BYTES_PER_MS = (WIRE_RATE_HZ * 2) / 1000;

/** @typedef {ArrayBuffer | object} Waiting PCM16 mono 24 kHz, or an event */

/** A queue that holds a bounded length of sound; of more, the oldest is lost. */
export class Outbox {
  /** @param {number} mostMs of sound */
  constructor(mostMs) {
    this.mostMs = mostMs;
    /** Of sound that had to be dropped since the queue was last empty. */
    this.lostMs = 0;
    /** @type {Waiting[]} */
    this.waiting = [];
    this.soundMs = 0;
  }

  get isEmpty() {
    return this.waiting.length === 0;
  }

  /** @param {Waiting} what */
  push(what) {
    this.waiting.push(what);
    this.soundMs += lengthMs(what);
    while (this.soundMs > this.mostMs) this.#dropOldestSound();
  }

  /**
   * Send what waits, in order.
   *
   * @param {(what: Waiting) => boolean} send false when it cannot be sent now: it stays the first
   */
  drain(send) {
    let count = 0;
    while (count < this.waiting.length && send(this.waiting[count])) count += 1;
    for (const what of this.waiting.splice(0, count)) this.soundMs -= lengthMs(what);
    if (this.isEmpty) this.lostMs = 0;
  }

  /** @param {string} eventId of an event, which may wait here */
  holds(eventId) {
    return this.waiting.some((what) => "event_id" in what && what.event_id === eventId);
  }

  /** Forget everything. */
  clear() {
    this.waiting = [];
    this.soundMs = 0;
    this.lostMs = 0;
  }

  #dropOldestSound() {
    const index = this.waiting.findIndex((what) => what instanceof ArrayBuffer);
    const [oldest] = this.waiting.splice(index, 1);
    this.soundMs -= lengthMs(oldest);
    this.lostMs += lengthMs(oldest);
  }
}

/** @param {Waiting} what */
function lengthMs(what) {
  return what instanceof ArrayBuffer ? what.byteLength / BYTES_PER_MS : 0;
}
