// @ts-check
/**
 * Names on the wire, and the sentence that each failure is shown as.
 *
 * The wire is the OpenAI Realtime protocol; a test compares these names with its types.
 */

/** Events this page sends. */
export const CLIENT_EVENT = Object.freeze({
  sessionUpdate: "session.update",
  audioCommit: "input_audio_buffer.commit",
  audioClear: "input_audio_buffer.clear",
  itemCreate: "conversation.item.create",
  responseCreate: "response.create",
  responseCancel: "response.cancel",
});

/** Events this page acts on; all others are left alone. */
export const SERVER_EVENT = Object.freeze({
  error: "error",
  sessionCreated: "session.created",
  sessionUpdated: "session.updated",
  speechStarted: "input_audio_buffer.speech_started",
  speechStopped: "input_audio_buffer.speech_stopped",
  itemAdded: "conversation.item.added",
  itemDeleted: "conversation.item.deleted",
  transcriptDelta: "conversation.item.input_audio_transcription.delta",
  transcriptCompleted: "conversation.item.input_audio_transcription.completed",
  transcriptFailed: "conversation.item.input_audio_transcription.failed",
  responseCreated: "response.created",
  outputItemAdded: "response.output_item.added",
  textDelta: "response.output_text.delta",
  textDone: "response.output_text.done",
  responseDone: "response.done",
});

/** Further events of translation sessions. */
export const TRANSLATION_EVENT = Object.freeze({
  sourceDelta: "session.input_transcript.delta",
  targetDelta: "session.output_transcript.delta",
});

/** Extensions of this server, sent only to clients that ask for them in the URL. */
export const EXTENSION_EVENT = Object.freeze({
  turnTimings: "voice_agent.turn.timings",
  segmentTimings: "voice_agent.segment.timings",
  sessionExpiring: "voice_agent.session.expiring",
});

/** Error codes that are no news to a person: two sides acted at the same moment. */
export const HARMLESS_ERROR_CODES = Object.freeze([
  "response_cancel_not_active",
  "input_audio_buffer_commit_empty",
]);

/** What the server says right before it ends a session at a limit. */
export const EXPIRED_ERROR_CODE = "session_expired";

/**
 * What went wrong, and what to do about it.
 *
 * @typedef {keyof typeof FAILURE} Failure
 */
export const FAILURE = Object.freeze({
  "insecure-origin":
    "This page cannot use the microphone because it was opened over plain http from another " +
    "machine. Open it over https, or on the server itself as http://localhost.",
  "microphone-missing": "No microphone was found. Connect one, then press the button again.",
  "microphone-refused":
    "The microphone is not allowed on this page. Allow it in the site settings, at the left of " +
    "the address bar, then press the button again.",
  "microphone-busy":
    "The microphone does not start; another program may be using it. Close that program, then " +
    "press the button again.",
  "microphone-lost": "The microphone was disconnected. Connect it, then press the button again.",
  "microphone-changed":
    "The microphone was disconnected; another one is used now. Choose below which one to use.",
  "microphone-silent":
    "The microphone gives no sound at all. Is it muted, or is another microphone chosen in the " +
    "system's settings?",
  "worklet-unsupported":
    "This browser cannot record sound for this page (it has no audio worklet). Use a current " +
    "Chrome, Edge, Firefox or Safari.",
  "worklet-failed":
    "Recording could not be started because a part of this page did not load. Reload the page.",
  "sound-not-started":
    "The browser does not start its sound. Firefox needs a loudspeaker or headphones for that, even " +
    "to record: connect one, then press the button again, or use Chrome or Edge.",
  "webrtc-blocked":
    "WebRTC does not get through to the server, so the page uses a WebSocket, which works as well. " +
    "If WebRTC is wanted, allow UDP between this device and the server, or set a TURN server.",
  "server-gone": "The server does not answer. Check that it is running and reachable.",
  "server-restarting":
    "The server is shutting down or starting again. This page connects as soon as it is back.",
  "server-full": "Every place on the server is taken. This page connects as soon as one is free.",
  "engine-starting":
    "The server is still loading its model. This page connects as soon as it is ready.",
  "engine-failed":
    "The server's model has crashed again and again; the server's log says why. This page " +
    "connects as soon as the model runs again.",
  "server-failed": "The server had an internal error; its log says more.",
  "server-refused":
    "The server refuses this page. Open it under the address that the server printed when it " +
    "started, or add this address to the server's allowed origins.",
  "network-slow":
    "The network is too slow for live sound; part of what you said was not sent. Move closer to " +
    "the access point or use a cable.",
  "session-ended":
    "The server ended this session because it was idle or at its longest. Start a new one to go on.",
  "key-missing": "This server asks for a key. Enter it to connect.",
  "key-wrong": "The server does not accept this key. Enter the right one.",
  "key-malformed":
    "This key cannot be sent by a browser. Use one of letters, digits and - . _ ~ only.",
});

/** After these a person can still write, where there is a box for it and a server that takes it. */
export const TYPING_HELPS = new Set(
  /** @type {Failure[]} */ ([
    "insecure-origin",
    "microphone-missing",
    "microphone-refused",
    "microphone-busy",
    "microphone-lost",
    "worklet-unsupported",
    "worklet-failed",
    "sound-not-started",
  ]),
);

/**
 * What a kiosk says instead: it has no buttons, and tries again by itself.
 *
 * @type {Partial<Record<Failure, string>>}
 */
const KIOSK_FAILURE = {
  "microphone-missing": "No microphone was found. Connect one: this page goes on by itself.",
  "microphone-refused":
    "The microphone is not allowed on this page. Allow it in the browser's site settings: this " +
    "page goes on by itself.",
  "microphone-busy":
    "The microphone does not start; another program may be using it. Close that program: this " +
    "page goes on by itself.",
  "microphone-lost": "The microphone was disconnected. Connect it: this page goes on by itself.",
  "sound-not-started":
    "The browser does not start its sound. Firefox needs a loudspeaker or headphones for that, even " +
    "to record: connect one, and this page goes on by itself, or use Chrome or Edge.",
  "microphone-changed": "The microphone was disconnected; another one is used now.",
  "key-missing": "The server asks for a key, and this page has none. Whoever set it up must add it.",
  "key-wrong":
    "The server does not accept the key of this page. Whoever set it up must give it another one.",
  "key-malformed":
    "The key of this page cannot be sent by a browser. Whoever set it up must give it one of " +
    "letters, digits and - . _ ~ only.",
};

/**
 * The sentence for a failure, in words that are true where it is shown.
 *
 * @param {Failure} failure
 * @param {{kiosk: boolean}} place
 * @returns {string}
 */
export function failureText(failure, { kiosk }) {
  return (kiosk ? KIOSK_FAILURE[failure] : null) ?? FAILURE[failure];
}

/** Sentences of the page itself. */
export const TEXT = Object.freeze({
  title: "Voice agent",
  connection: Object.freeze({
    connecting: "Connecting",
    ready: "Connected",
    waiting: "Not connected",
    stopped: "Not connected",
  }),
  activity: Object.freeze({
    offline: "Not connected",
    idle: "Microphone is off",
    asking: "Asking for the microphone",
    starting: "Starting the microphone",
    listening: "Listening",
    waiting: "Ready",
    muted: "Muted",
    hearing: "Hearing you",
    thinking: "Thinking",
    answering: "Answering",
    translating: "Translating",
    recognising: "Writing",
  }),
  askingHint: "Your browser asks whether this page may use it: choose “Allow” there.",
  microphoneHint: "Press the round button and speak.",
  notSentHint: "What you say now is not sent. Wait until it says “Listening”.",
  keptHint: "You can speak: it is sent as soon as the page is connected.",
  trimmedHint: "Only the last 30 s of what you say are kept until the page is connected.",
  typingWorks: "Typing works.",
  pushToTalk: "Push to talk",
  pushToTalkHint: "Hold the round button or the space bar while you speak.",
  holdToTalk: "Hold to talk",
  microphone: "Microphone",
  microphoneOff: "Microphone off",
  microphoneIsOn: "The microphone is on",
  mute: "Mute",
  unmute: "Unmute",
  mutedHint: "Nobody hears you until you press “Unmute”.",
  copy: "Copy",
  copied: "Copied",
  notCopied: "Not allowed",
  save: "Save",
  tools: "Microphone, copy and save",
  talk: "Start talking",
  stopTalking: "Stop the microphone",
  stopAnswer: "Stop answer",
  level: "Microphone level",
  greeting: Object.freeze({
    conversation: Object.freeze({
      title: "Say something",
      text:
        "What is heard and the answer appear here as they come. You can interrupt an answer by " +
        "speaking.",
    }),
    translation: Object.freeze({
      title: "Speak, and read it in another language",
      text: "What is said appears here together with its translation.",
    }),
    captions: Object.freeze({
      title: "Captions",
      text: "What is said appears here while it is being said.",
    }),
  }),
  log: Object.freeze({
    conversation: "Conversation",
    translation: "Translation",
    captions: "Captions",
  }),
  languages: "Languages",
  spokenLanguage: "Spoken",
  targetLanguage: "Translation",
  detected: "Detected",
  otherTargets: "Other languages need Gemma 4",
  fewTargets: "The model of this server translates into English only. Gemma 4 knows the others.",
  tapTitle: "Touch to begin",
  tap: "The browser wants a touch, and may ask once, before this page can use the microphone.",
  composerLabel: "Type a message",
  send: "Send",
  key: "Server key",
  connect: "Connect",
  retryNow: "Try now",
  startAgain: Object.freeze({
    conversation: "Start a new conversation",
    translation: "Start again",
    captions: "Start again",
  }),
  conversationBegins: Object.freeze({
    anew: "New conversation. What is above is not remembered.",
    again: "Connected again. The conversation goes on.",
  }),
  captionsBegin: Object.freeze({
    anew: "New captions begin here.",
    again: "Connected again. The captions go on.",
  }),
  you: "You",
  agent: "Agent",
  speaking: "Speaking …",
  recognising: "Recognising …",
  thinking: "Thinking …",
  notRecognised: "This could not be recognised",
  nothingHeard: "No words heard",
  waiting: "Not sent yet: it is sent once the page is connected",
  refused: "The server did not take this",
  connectionLost: "The connection was lost",
  interrupted: "Interrupted by you",
  stopped: "Stopped by you",
  tooLong: "Cut at the length limit",
  notTranslated: "This could not be translated",
  answerFailed: "The answer failed",
});

/** Stages of an answer's delay, as a person reads them; others keep the server's name. */
export const STAGE_TEXT = Object.freeze({
  endpointing: "Waiting for the end of your turn",
  recognition: "Recognising",
  prompt: "Preparing the answer",
  queue: "Waiting for the model",
  prefill: "Reading what was said",
  first_step: "Making the first word",
  other: "On the way",
});

/**
 * @param {import("./session.js").Latency} latency
 * @returns {string}
 */
export function latencyText({ ms, measuredBy }) {
  const seconds = (ms / 1000).toFixed(2);
  return measuredBy === "server"
    ? `First word ${seconds} s after you stopped speaking`
    : `First word ${seconds} s after the end of your turn, measured in this page`;
}

/** @param {number} seconds until a kiosk forgets what was said */
export function resetText(seconds) {
  return `This is cleared in ${seconds} s. Speak, or touch the page, to keep it.`;
}

/** @param {number} ms from the end of speech to the first word of its translation */
export function translationLatencyText(ms) {
  return `${(ms / 1000).toFixed(1)} s after it was said`;
}

/** @param {number} seconds */
export function retryText(seconds) {
  return seconds > 0 ? `Next attempt in ${seconds} s.` : "Trying now.";
}

/**
 * @param {{reason: string, remainingS: number}} expiry
 * @param {{mode: import("./modes.js").Mode, kiosk: boolean}} place
 * @returns {string}
 */
export function expiryText({ reason, remainingS }, { mode, kiosk }) {
  const canType = mode === "conversation" && !kiosk;
  const what = `The server ends this session in about ${Math.round(remainingS)} s`;
  return reason === "idle"
    ? `${what}, because nothing was said for long. Say ${canType ? "or type " : ""}something to ` +
        "keep it."
    : `${what}, because it has reached its longest time.`;
}
