// @ts-check
/** The conversation as a list: one row an entry, changed in place while it grows. */

import { element, part, setText } from "./dom.js";
import { STAGE_TEXT, TEXT, latencyText } from "./messages.js";
import { createLog, createRows } from "./view-log.js";

/** @typedef {import("./session.js").Entry} Entry */
/** @typedef {import("./session.js").Latency} Latency */

/** @param {(text: string) => void} announce to screen readers */
export function createEntryList(announce) {
  const list = element("ol", { className: "entries" });
  const log = createLog(list);
  /** @type {import("./modes.js").Mode} */
  let shownMode = "conversation";
  let isReady = false;
  const renderRows = createRows(
    list,
    (/** @type {Entry} */ entry) => createRow(entry, () => isReady),
    ({ role, text, status }) => {
      announce(shownMode === "captions" ? text : `${nameOf(role)}: ${text}`);
      if (status === "waiting" && !isReady) announce(TEXT.waiting);
    },
  );
  return {
    node: log.node,
    /**
     * @param {readonly Entry[]} entries
     * @param {import("./modes.js").Mode} mode
     * @param {boolean} ready what is typed is on its way
     */
    render(entries, mode, ready) {
      log.name(TEXT.log[mode]);
      log.greet(entries.length > 0 ? null : mode);
      shownMode = mode;
      isReady = ready;
      renderRows(entries);
      log.follow();
    },
  };
}

/**
 * @param {Entry} entry
 * @param {() => boolean} isReady what is typed is on its way
 */
function createRow({ role }, isReady) {
  const text = part("entry-text", element("p", { className: "text" }));
  const remark = element("p", { className: "remark" });
  const latency = createLatency();
  const node = part(`entry entry-${role}`, element("li", { className: `entry ${role}` }));
  text.dir = "auto";
  if (role !== "divider") {
    node.append(element("span", { className: "who", textContent: nameOf(role) }));
  }
  node.append(text, remark);
  if (role === "agent") node.append(latency.node);
  /** @type {Entry | null} */
  let shown = null;
  return {
    node,
    /**
     * @param {Entry} entry
     * @returns {boolean} true when it has just become complete
     */
    render(entry) {
      setText(remark, entry.status === "waiting" && isReady() ? "" : remarkOf(entry));
      remark.hidden = !remark.textContent;
      if (entry === shown) return false;
      const isNews = isComplete(entry) && !(shown && isComplete(shown));
      shown = entry;
      node.dataset.status = entry.status;
      const placeholder = entry.text ? "" : placeholderOf(entry);
      text.classList.toggle("placeholder", placeholder !== "");
      setText(text, entry.text || placeholder);
      latency.render(entry.latency);
      return isNews;
    },
  };
}

function createLatency() {
  const summary = element("summary");
  const stages = element("dl");
  const node = element("details", { className: "latency", hidden: true }, summary, stages);
  return {
    node,
    /** @param {Latency | null} latency */
    render(latency) {
      node.hidden = latency === null;
      if (latency === null) return;
      setText(summary, latencyText(latency));
      const pairs = Object.entries(latency.stagesMs);
      node.classList.toggle("plain", pairs.length === 0);
      stages.replaceChildren(
        ...pairs.flatMap(([stage, ms]) => [
          element("dt", { textContent: stageText(stage) }),
          element("dd", { textContent: `${Math.round(ms)} ms` }),
        ]),
      );
    },
  };
}

/** @type {ReadonlySet<Entry["status"]>} */
const COMPLETE = new Set(["done", "waiting", "refused", "cut", "incomplete"]);

/** @param {Entry} entry */
function isComplete({ role, text, status }) {
  return role !== "divider" && text !== "" && COMPLETE.has(status);
}

/**
 * @param {Entry} entry one without text
 * @returns {string}
 */
function placeholderOf({ role, status }) {
  if (role === "agent") return status === "streaming" ? TEXT.thinking : "";
  switch (status) {
    case "hearing":
      return TEXT.speaking;
    case "recognising":
      return TEXT.recognising;
    case "done":
      return TEXT.nothingHeard;
    default:
      return "";
  }
}

/**
 * @param {Entry} entry
 * @returns {string}
 */
function remarkOf({ role, status, reason }) {
  switch (status) {
    case "waiting":
      return TEXT.waiting;
    case "refused":
      return `${TEXT.refused}: ${reason}`;
    case "lost":
      return TEXT.connectionLost;
    case "cut":
      return reason === "turn_detected" ? TEXT.interrupted : TEXT.stopped;
    case "incomplete":
      return TEXT.tooLong;
    case "failed": {
      const failed = role === "user" ? TEXT.notRecognised : TEXT.answerFailed;
      return reason ? `${failed}: ${reason}` : failed;
    }
    default:
      return "";
  }
}

/** @param {Entry["role"]} role */
function nameOf(role) {
  return role === "user" ? TEXT.you : TEXT.agent;
}

/** @param {string} stage */
function stageText(stage) {
  return Object.entries(STAGE_TEXT).find(([name]) => name === stage)?.[1] ?? stage;
}
