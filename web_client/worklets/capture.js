// @ts-check
/**
 * Cuts the microphone's sound into pieces of equal length and hands them over.
 *
 * Runs on the browser's audio thread, so it only copies: everything else happens in
 * `microphone.js`. Messages are `Float32Array`s, mono, in [-1, 1], at the rate of the audio
 * context; their buffers are transferred.
 */

const { AudioWorkletProcessor, registerProcessor } = /** @type {any} */ (globalThis);

class Capture extends AudioWorkletProcessor {
  /** @param {{processorOptions: {pieceSamples: number}}} options */
  constructor(options) {
    super();
    this.pieceSamples = options.processorOptions.pieceSamples;
    this.piece = new Float32Array(this.pieceSamples);
    this.filled = 0;
  }

  /**
   * @param {Float32Array[][]} inputs one input, mixed down to one channel by its node
   * @returns {boolean} true: stay alive while the microphone is muted or not connected yet
   */
  process(inputs) {
    const block = inputs[0][0];
    let taken = 0;
    while (block && taken < block.length) {
      const count = Math.min(block.length - taken, this.pieceSamples - this.filled);
      this.piece.set(block.subarray(taken, taken + count), this.filled);
      taken += count;
      this.filled += count;
      if (this.filled === this.pieceSamples) {
        this.port.postMessage(this.piece, [this.piece.buffer]);
        this.piece = new Float32Array(this.pieceSamples);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
