// @ts-check
/** What the page looks like: builds the elements once, then brings them up to date. */

import { button, element, icon, part, setText } from "./dom.js";
import { TEXT } from "./messages.js";
import { createEntryList } from "./view-entries.js";
import { createTapScreen } from "./view-kiosk.js";
import { createLanguages } from "./view-languages.js";
import { createAnnouncer } from "./view-log.js";
import { createNotices } from "./view-notices.js";
import { createTalkButton } from "./view-talk.js";
import { createTools } from "./view-tools.js";
import { createTranslation } from "./view-translation.js";

/** @typedef {import("./messages.js").Failure} Failure */

/**
 * Everything that is shown.
 *
 * @typedef {object} Model
 * @property {import("./modes.js").Mode} mode
 * @property {boolean} kiosk
 * @property {boolean} needsTap the browser gives a kiosk no sound before somebody touches it
 * @property {number | null} resetInS when a kiosk forgets everything, once that is near
 * @property {import("./session.js").SessionState} session
 * @property {import("./connection.js").ConnectionStatus} connection
 * @property {import("./activity.js").Activity} activity
 * @property {import("./conversation.js").Turns} turns
 * @property {boolean} isTalking the button is held down
 * @property {"kept" | "trimmed" | "lost"} speechWhileOffline what becomes of it
 * @property {Failure | null} transportNotice why another transport is used
 * @property {boolean} microphoneIsOn
 * @property {Failure | null} microphoneFailure
 * @property {boolean} microphoneIsMuted
 * @property {readonly import("./devices.js").Device[]} microphones to choose from
 * @property {string} microphoneId the one that is used
 * @property {boolean} networkIsSlow
 * @property {import("./server-info.js").ServerInfo} info
 * @property {number} nowMs on the clock of the connection's `retryAtMs`
 */

/**
 * What a person can do.
 *
 * @typedef {object} Actions
 * @property {() => void} toggleMicrophone
 * @property {() => void} startTalking the button is held down
 * @property {() => void} stopTalking the button is let go
 * @property {(turns: import("./conversation.js").Turns) => void} setTurns
 * @property {(id: string) => void} chooseMicrophone
 * @property {(isMuted: boolean) => void} mute
 * @property {() => Promise<boolean>} copy false when the browser does not allow it
 * @property {() => void} save
 * @property {(text: string) => boolean} sendText false where nothing can be said in writing
 * @property {() => void} stopAnswer
 * @property {() => void} connect
 * @property {(key: string) => void} useKey
 * @property {(code: string) => void} chooseSource a language, empty to have it detected
 * @property {(code: string) => void} chooseTarget a language
 * @property {() => void} touch somebody is there
 * @property {() => void} tap a kiosk may start
 */

const STYLESHEETS = [
  "./voice-agent.css",
  "./view-entries.css",
  "./view-tools.css",
  "./view-modes.css",
];
const SEND_PATH = "M12 20V5M5.5 11.5 12 5l6.5 6.5";

/**
 * @param {ShadowRoot} root
 * @param {Actions} actions
 */
export function createView(root, actions) {
  const announcer = createAnnouncer();
  const header = createHeader();
  const languages = createLanguages(actions);
  const entries = createEntryList(announcer.say);
  const translation = createTranslation(announcer.say);
  const notices = createNotices(actions);
  const dock = createDock(actions);
  const tools = createTools(actions);
  const tapScreen = createTapScreen(actions.tap);
  const footer = element("footer", { className: "dock" }, notices.node, dock.node, tools.node);
  const shell = element(
    "div",
    { className: "shell", hidden: true },
    header.node,
    languages.node,
    entries.node,
    translation.node,
    part("dock", footer),
    tapScreen.node,
    announcer.node,
  );
  part("shell", shell);
  shell.addEventListener("keydown", (event) => {
    if (event.key === "Escape") actions.stopAnswer();
    actions.touch();
  });
  shell.addEventListener("pointerdown", actions.touch);
  shell.addEventListener("wheel", actions.touch, { passive: true });
  root.append(shell);
  void loadStyles(root).then(() => {
    shell.hidden = false;
  });
  let wasEmpty = true;
  const announceMicrophone = changeAnnouncer(announcer.say);
  return {
    /** @param {Model} model */
    render(model) {
      const { mode, session } = model;
      shell.dataset.mode = mode;
      shell.dataset.activity = model.activity;
      shell.dataset.microphone = model.microphoneIsOn && isHeard(model) ? "on" : "off";
      shell.toggleAttribute("data-kiosk", model.kiosk);
      header.render(model);
      languages.render(model);
      const translates = mode === "translation";
      entries.node.hidden = translates;
      translation.node.hidden = !translates;
      entries.render(translates ? [] : session.entries, mode, session.ready);
      translation.render(session.passages, session.languages.source);
      const isEmpty = session.entries.length === 0 && session.passages.length === 0;
      if (isEmpty && !wasEmpty) announcer.clear();
      wasEmpty = isEmpty;
      notices.render(model);
      dock.render(model);
      tools.render(model);
      tapScreen.render(model.kiosk && model.needsTap);
      for (const node of [header.node, languages.node, entries.node, translation.node, footer]) {
        node.inert = model.kiosk && model.needsTap;
      }
      announceMicrophone(model.microphoneIsOn ? TEXT.microphoneIsOn : TEXT.activity.idle);
    },
    /** @param {number} level 0 … 1 */
    setLevel: dock.setLevel,
  };
}

/**
 * Announces a state when it changes; the first is no change.
 *
 * @param {(text: string) => void} say
 */
function changeAnnouncer(say) {
  /** @type {string | null} */
  let shown = null;
  return (/** @type {string} */ text) => {
    if (text !== shown && shown !== null) say(text);
    shown = text;
  };
}

/**
 * Add the stylesheets; the promise is kept once they apply, or cannot be had.
 *
 * @param {ShadowRoot} root
 */
function loadStyles(root) {
  const loads = STYLESHEETS.map(
    (name) =>
      new Promise((settled) => {
        const href = new URL(name, import.meta.url).href;
        const link = { rel: "stylesheet", href, onload: settled, onerror: settled };
        root.append(element("link", link));
      }),
  );
  return Promise.all(loads);
}

function createHeader() {
  const state = part("connection", element("span", { className: "connection" }));
  const note = part("note", element("p", { className: "note" }));
  // What the page around puts there, such as links to other modes, stands in the header.
  const slot = element("slot", { name: "header" });
  const title = element("h1", { textContent: TEXT.title });
  const node = part(
    "header",
    element("header", {}, element("div", { className: "title" }, title, slot, state), note),
  );
  return {
    node,
    /** @param {Model} model */
    render({ connection, session, info }) {
      const name = connection.state === "open" ? "connecting" : connection.state;
      const shown = session.ready ? "ready" : name;
      setText(state, TEXT.connection[shown]);
      state.dataset.state = shown;
      setText(note, info.note);
      note.hidden = !info.note;
    },
  };
}

/** @param {Actions} actions */
function createDock(actions) {
  const talk = createTalkButton(actions);
  part("talk", talk.node);
  const state = part("activity", element("p", { className: "activity", role: "status" }));
  // It changes several times a turn: there to be read, not to be said each time.
  state.setAttribute("aria-live", "off");
  const hint = element("p", { className: "hint" });
  const meter = createMeter();
  const stop = part("stop", button(TEXT.stopAnswer, actions.stopAnswer, "stop-answer"));
  const composer = createComposer(actions);
  const node = element(
    "div",
    { className: "controls" },
    talk.node,
    element("div", { className: "state" }, state, hint, meter.node),
    stop,
    composer.node,
  );
  return {
    node,
    /** @param {Model} model */
    render(model) {
      const { activity, microphoneIsOn, session, mode, kiosk } = model;
      setText(state, TEXT.activity[activity]);
      talk.render(model);
      setText(hint, hintOf(model));
      const isLost = activity === "offline" && model.speechWhileOffline === "lost";
      const shows = microphoneIsOn && isHeard(model) && !isLost && activity !== "muted";
      meter.node.hidden = !shows;
      stop.hidden = session.response === null;
      talk.node.hidden = kiosk;
      composer.node.hidden = kiosk || mode !== "conversation";
    },
    /** @param {number} level 0 … 1 */
    setLevel(level) {
      node.style.setProperty("--level", level.toFixed(3));
      meter.setLevel(level);
    },
  };
}

/**
 * Whether what is said is for the server: with push-to-talk, while the button is held.
 *
 * @param {Model} model
 */
function isHeard({ turns, isTalking }) {
  return turns === "hands-free" || isTalking;
}

/** @param {Model} model */
function hintOf(model) {
  const { activity, turns, speechWhileOffline, microphoneIsOn, microphoneFailure } = model;
  if (activity === "offline") return microphoneIsOn ? OFFLINE_HINT[speechWhileOffline] : "";
  if (activity === "asking") return TEXT.askingHint;
  if (model.kiosk) return ""; // it has no buttons that a hint could tell of
  if (activity === "muted") return TEXT.mutedHint;
  if (activity !== "idle" && activity !== "waiting") return "";
  if (microphoneFailure !== null && !microphoneIsOn) return "";
  return turns === "push-to-talk" ? TEXT.pushToTalkHint : TEXT.microphoneHint;
}

const OFFLINE_HINT = { kept: TEXT.keptHint, trimmed: TEXT.trimmedHint, lost: TEXT.notSentHint };

function createMeter() {
  const node = part("meter", element("div", { className: "meter", role: "meter", hidden: true }));
  node.setAttribute("aria-label", TEXT.level);
  node.setAttribute("aria-valuemin", "0");
  node.setAttribute("aria-valuemax", "100");
  node.append(element("div", { className: "meter-bar" }));
  return {
    node,
    /** @param {number} level 0 … 1 */
    setLevel(level) {
      node.setAttribute("aria-valuenow", String(Math.round(level * 100)));
    },
  };
}

/** @param {Actions} actions */
function createComposer(actions) {
  const input = element("textarea", { rows: 1, placeholder: TEXT.composerLabel, maxLength: 8000 });
  input.setAttribute("aria-label", TEXT.composerLabel);
  const send = element("button", { type: "submit", className: "send", title: TEXT.send });
  send.setAttribute("aria-label", TEXT.send);
  send.append(icon(SEND_PATH));
  const node = part("composer", element("form", { className: "composer" }, input, send));
  node.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (text && actions.sendText(text)) input.value = "";
  });
  input.addEventListener("keydown", (event) => {
    // Enter also ends the composition of a Chinese or Japanese word: that must not send.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    node.requestSubmit();
  });
  return { node };
}
