// @ts-check
/** The microphone, as pieces of 16-bit PCM at the wire's rate. */

import { Resampler, WIRE_RATE_HZ, meterLevel, toPcm16 } from "./pcm.js";

/** A microphone that never gave a sample but zero for this long is muted or dead. */
const SILENT_AFTER_MS = 5_000;
/** Short enough to add little delay, long enough to cost little per message. */
const PIECE_MS = 40;

/** An audio graph that may run does so in a fraction of this time. */
const STARTED_WITHIN_MS = 5_000;

/** @typedef {import("./messages.js").Failure} Failure */

/** The microphone cannot be used; `failure` names the sentence to show. */
export class MicrophoneError extends Error {
  /**
   * @param {Failure} failure
   * @param {unknown} [cause]
   */
  constructor(failure, cause) {
    super(failure, { cause });
    this.name = "MicrophoneError";
    this.failure = failure;
  }
}

/**
 * @typedef {object} MicrophoneHandlers
 * @property {(stream: MediaStream) => void} onStream it is open; pieces begin a moment later
 * @property {(pcm: ArrayBuffer, level: number) => void} onPiece PCM16 mono 24 kHz, 40 ms, and
 *   its level for a meter, 0 … 1
 * @property {() => void} onSilent it is muted: nothing but zeros since it was started
 * @property {() => void} onLost the device has gone; the microphone is already stopped
 */

/** Why no microphone can work on this page at all, or null. */
export function microphoneObstacle() {
  if (!window.isSecureContext || !navigator.mediaDevices) return "insecure-origin";
  if (typeof AudioWorkletNode === "undefined") return "worklet-unsupported";
  return null;
}

/** A running microphone. */
export class Microphone {
  /**
   * Ask for the microphone and start it; call it from a click.
   *
   * @param {MicrophoneHandlers} handlers
   * @param {string} [deviceId] which one, if it is there; the system's choice otherwise
   * @returns {Promise<Microphone>}
   * @throws {MicrophoneError}
   */
  static async start(handlers, deviceId = "") {
    const obstacle = microphoneObstacle();
    if (obstacle) throw new MicrophoneError(obstacle);
    const stream = await openStream(deviceId);
    // A call that carries the stream itself must not lose what is said while the rest loads.
    handlers.onStream(stream);
    /** @type {AudioContext | null} */
    let context = null;
    try {
      const opened = openContext(stream);
      context = opened.context;
      await loadWorklet(context);
      await started(context);
      return new Microphone(stream, context, opened.source, handlers);
    } catch (error) {
      for (const track of stream.getTracks()) track.stop();
      void context?.close(); // one that has not started may never say that it is closed
      throw error;
    }
  }

  /**
   * Use `Microphone.start`.
   *
   * @param {MediaStream} stream
   * @param {AudioContext} context with the capture worklet loaded
   * @param {MediaStreamAudioSourceNode} source
   * @param {MicrophoneHandlers} handlers
   */
  constructor(stream, context, source, handlers) {
    this.stream = stream;
    this.context = context;
    this.isMuted = false;
    const resampler =
      context.sampleRate === WIRE_RATE_HZ ? null : new Resampler(context.sampleRate, WIRE_RATE_HZ);
    const pieceSamples = Math.round((context.sampleRate * PIECE_MS) / 1000);
    this.node = new AudioWorkletNode(context, "capture", {
      numberOfInputs: 1,
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { pieceSamples },
    });
    let silentMs = 0;
    this.node.port.onmessage = (/** @type {MessageEvent<Float32Array>} */ message) => {
      const samples = resampler ? resampler.process(message.data) : message.data;
      handlers.onPiece(toPcm16(samples), meterLevel(samples));
      if (message.data.some((sample) => sample !== 0)) silentMs = -Infinity;
      if (!this.isMuted) silentMs += PIECE_MS;
      if (silentMs === SILENT_AFTER_MS) handlers.onSilent();
    };
    for (const track of stream.getAudioTracks()) {
      track.onended = () => {
        void this.stop();
        handlers.onLost();
      };
    }
    source.connect(this.node);
  }

  /** Which device it is; empty where the browser does not tell. */
  get deviceId() {
    return this.stream.getAudioTracks()[0]?.getSettings().deviceId ?? "";
  }

  /** @param {boolean} isMuted silence comes instead of sound */
  mute(isMuted) {
    this.isMuted = isMuted;
    for (const track of this.stream.getAudioTracks()) track.enabled = !isMuted;
  }

  /** Stop and free the device; harmless when stopped already. */
  async stop() {
    this.node.port.onmessage = null;
    this.node.disconnect();
    for (const track of this.stream.getTracks()) {
      track.onended = null;
      track.stop();
    }
    if (this.context.state !== "closed") await this.context.close();
  }
}

/**
 * @param {string} deviceId empty for the system's choice
 * @returns {Promise<MediaStream>}
 * @throws {MicrophoneError}
 */
async function openStream(deviceId) {
  const audio = {
    channelCount: 1,
    echoCancellation: true,
    noiseSuppression: true,
    autoGainControl: true,
  };
  try {
    if (!deviceId) return await navigator.mediaDevices.getUserMedia({ audio });
    // Chromium takes `ideal` for less than the other wishes: it would open any microphone.
    const chosen = { ...audio, deviceId: { exact: deviceId } };
    return await navigator.mediaDevices.getUserMedia({ audio: chosen });
  } catch (error) {
    const isGone = deviceId && ABSENT.has(error instanceof DOMException ? error.name : "");
    if (isGone) return openStream("");
    throw new MicrophoneError(failureOf(error), error);
  }
}

const ABSENT = new Set(["NotFoundError", "OverconstrainedError"]);

/**
 * @param {unknown} error what getUserMedia threw
 * @returns {Failure}
 */
function failureOf(error) {
  switch (error instanceof DOMException ? error.name : "") {
    case "NotFoundError":
    case "OverconstrainedError":
      return "microphone-missing";
    case "NotAllowedError":
    case "SecurityError":
      return "microphone-refused";
    default:
      return "microphone-busy";
  }
}

/**
 * Join the stream to an audio context at the wire's rate, so that the browser resamples.
 *
 * Firefox refuses to join a stream to a context of another rate than its device: there the
 * context keeps the device's rate, and `Resampler` does it.
 *
 * @param {MediaStream} stream
 */
function openContext(stream) {
  /** @type {AudioContext | null} */
  let context = null;
  try {
    context = new AudioContext({ sampleRate: WIRE_RATE_HZ });
    return { context, source: context.createMediaStreamSource(stream) };
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== "NotSupportedError") throw error;
    void context?.close();
    const native = new AudioContext();
    return { context: native, source: native.createMediaStreamSource(stream) };
  }
}

/**
 * @param {AudioContext} context
 * @throws {MicrophoneError}
 */
async function loadWorklet(context) {
  try {
    await context.audioWorklet.addModule(new URL("./worklets/capture.js", import.meta.url));
  } catch (error) {
    throw new MicrophoneError("worklet-failed", error);
  }
}

/**
 * Let the audio graph run. Firefox's waits for ever where the machine has no sound output.
 *
 * @param {AudioContext} context
 * @throws {MicrophoneError}
 */
async function started(context) {
  let timer = 0;
  const tooLate = new Promise((_, reject) => {
    const fail = () => reject(new MicrophoneError("sound-not-started"));
    timer = setTimeout(fail, STARTED_WITHIN_MS);
  });
  await Promise.race([context.resume(), tooLate]);
  clearTimeout(timer);
}
