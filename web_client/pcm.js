// @ts-check
/** Sound as numbers: 16-bit PCM for the wire, levels for the meter, a resampler. */

/** Samples per second on the wire. */
export const WIRE_RATE_HZ = 24_000;

/** Below this the meter shows nothing: the noise of a quiet room through a headset. */
const SILENT_DB = -60;
/** Loud speech close to a microphone; the meter is full. */
const LOUD_DB = -12;

/**
 * Convert samples to 16-bit PCM, little-endian as every browser's typed arrays are.
 *
 * @param {Float32Array} samples mono, nominally in [-1, 1]; what is beyond is clipped
 * @returns {ArrayBuffer}
 */
export function toPcm16(samples) {
  const pcm = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i++) {
    const value = Math.round(samples[i] * 32768);
    pcm[i] = Math.max(-32768, Math.min(32767, value));
  }
  return pcm.buffer;
}

/**
 * Level of one piece for a meter.
 *
 * @param {Float32Array} samples mono, in [-1, 1]
 * @returns {number} 0 (silence) … 1 (loud), linear in decibels
 */
export function meterLevel(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const db = 10 * Math.log10(sum / Math.max(1, samples.length) + 1e-12);
  return Math.max(0, Math.min(1, (db - SILENT_DB) / (LOUD_DB - SILENT_DB)));
}

/** Zero crossings of the kernel on each side; 24 keep aliases below -70 dB. */
const KERNEL_CROSSINGS = 24;
/** Share of the band that is kept; the rest is the slope of the filter. */
const PASS_BAND = 0.92;

/**
 * Changes the rate of a stream of pieces, without a seam between them.
 *
 * A polyphase windowed-sinc filter. Only used where a browser refuses to run the
 * microphone at the wire's rate itself (Firefox).
 */
export class Resampler {
  /**
   * @param {number} fromHz
   * @param {number} toHz
   */
  constructor(fromHz, toHz) {
    const divisor = greatestCommonDivisor(fromHz, toHz);
    /** Output sample n lies at input position n * stride / phases. */
    this.phases = toHz / divisor;
    this.stride = fromHz / divisor;
    const cutoff = Math.min(1, toHz / fromHz) * PASS_BAND;
    this.halfTaps = Math.ceil(KERNEL_CROSSINGS / cutoff);
    this.kernels = Array.from({ length: this.phases }, (_, phase) =>
      lowPassKernel(phase / this.phases, cutoff, this.halfTaps),
    );
    /** Input not yet left behind; begins with silence so that output n is centred on time n. */
    this.pending = new Float32Array(this.halfTaps - 1);
    this.phase = 0;
  }

  /**
   * @param {Float32Array} samples the next piece of the stream, any length
   * @returns {Float32Array} what can be computed so far; the rest comes with the next piece
   */
  process(samples) {
    const input = new Float32Array(this.pending.length + samples.length);
    input.set(this.pending);
    input.set(samples, this.pending.length);
    const taps = 2 * this.halfTaps;
    /** @type {number[]} */
    const output = [];
    let start = 0;
    while (start + taps <= input.length) {
      const kernel = this.kernels[this.phase];
      let sum = 0;
      for (let tap = 0; tap < taps; tap++) sum += input[start + tap] * kernel[tap];
      output.push(sum);
      this.phase += this.stride;
      start += Math.floor(this.phase / this.phases);
      this.phase %= this.phases;
    }
    this.pending = input.slice(start);
    return Float32Array.from(output);
  }
}

/**
 * @param {number} a
 * @param {number} b
 * @returns {number}
 */
function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/**
 * Taps of a low pass that reads between samples.
 *
 * @param {number} offset where between two input samples the output lies, 0 … 1
 * @param {number} cutoff share of the input's band that passes
 * @param {number} halfTaps taps on each side
 * @returns {Float32Array} sums to 1
 */
function lowPassKernel(offset, cutoff, halfTaps) {
  const kernel = new Float32Array(2 * halfTaps);
  let sum = 0;
  for (let tap = 0; tap < kernel.length; tap++) {
    const time = tap - (halfTaps - 1) - offset;
    const x = Math.PI * cutoff * time;
    const window = 0.5 + 0.5 * Math.cos((Math.PI * time) / halfTaps);
    kernel[tap] = (x === 0 ? 1 : Math.sin(x) / x) * window;
    sum += kernel[tap];
  }
  return kernel.map((value) => value / sum);
}
