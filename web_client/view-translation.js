// @ts-check
/** A translation in two columns: what was said, and what it means. */

import { element, part, setText } from "./dom.js";
import { TEXT, translationLatencyText } from "./messages.js";
import { createLog, createRows } from "./view-log.js";

/** @typedef {import("./passages.js").Passage} Passage */

/** @param {(text: string) => void} announce to screen readers */
export function createTranslation(announce) {
  const list = element("ol", { className: "passages" });
  const log = createLog(list);
  log.name(TEXT.log.translation);
  let spoken = "";
  const renderRows = createRows(
    list,
    () => createRow(spoken),
    (/** @type {Passage} */ passage) => announce(passage.target),
  );
  return {
    node: log.node,
    /**
     * @param {readonly Passage[]} passages
     * @param {string} sourceLanguage code, or empty
     */
    render(passages, sourceLanguage) {
      log.greet(passages.length > 0 ? null : "translation");
      spoken = sourceLanguage;
      renderRows(passages);
      log.follow();
    },
  };
}

/** @param {string} sourceLanguage code, or empty */
function createRow(sourceLanguage) {
  const source = part("source", element("p", { className: "text source", dir: "auto" }));
  // The empty code says that it is not known, rather than that of the page.
  source.lang = sourceLanguage;
  const target = part("target", element("p", { className: "text target", dir: "auto" }));
  const remark = element("p", { className: "remark" });
  const node = part("passage", element("li", { className: "passage" }, source, target, remark));
  /** @type {Passage | null} */
  let shown = null;
  return {
    node,
    /**
     * @param {Passage} passage
     * @returns {boolean} true when its translation has just become complete
     */
    render(passage) {
      if (passage === shown) return false;
      const isNews = isComplete(passage) && !(shown && isComplete(shown));
      shown = passage;
      node.dataset.status = passage.status;
      setText(source, passage.source);
      setText(target, passage.target);
      target.lang = passage.language;
      setText(remark, remarkOf(passage));
      remark.hidden = !remark.textContent;
      return isNews;
    },
  };
}

/** @param {Passage} passage */
function isComplete({ status, target }) {
  return target !== "" && (status === "done" || status === "incomplete");
}

/** @param {Passage} passage */
function remarkOf({ status, latencyMs }) {
  switch (status) {
    case "lost":
      return TEXT.connectionLost;
    case "failed":
      return TEXT.notTranslated;
    case "incomplete":
      return TEXT.tooLong;
    default:
      return latencyMs === null ? "" : translationLatencyText(Math.max(0, latencyMs));
  }
}
