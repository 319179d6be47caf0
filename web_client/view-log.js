// @ts-check
/** A list that follows what is new at its end, with a greeting while there is nothing. */

import { element, part, setText } from "./dom.js";
import { TEXT } from "./messages.js";

/** Someone who scrolled this far up is reading: new text does not pull them down. */
const FOLLOW_WITHIN_PX = 48;

/** Announcements stay in the page this long, since two may come with one frame. */
const MOST_ANNOUNCED = 3;

/** @param {HTMLElement} list */
export function createLog(list) {
  const title = element("h2");
  const text = element("p");
  const greeting = element("div", { className: "greeting" }, title, text);
  const node = part("log", element("section", { className: "log", tabIndex: 0 }, greeting, list));
  let follows = true;
  const follow = () => {
    if (follows && greeting.hidden) node.scrollTop = node.scrollHeight;
  };
  let size = "";
  const sizeOf = () => `${node.clientWidth} ${node.clientHeight}`;
  node.addEventListener("scroll", () => {
    if (sizeOf() !== size) return; // moved by its new shape, not by a reader
    const belowPx = node.scrollHeight - node.scrollTop - node.clientHeight;
    follows = !greeting.hidden || belowPx < FOLLOW_WITHIN_PX;
  });
  new ResizeObserver(() => {
    // What scrolls stands in line with what does not: the scroll bar's place is no margin.
    node.style.setProperty("--gutter", `${node.offsetWidth - node.clientWidth}px`);
    size = sizeOf();
    follow();
  }).observe(node);
  return {
    node,
    follow,
    /** @param {string} label for screen readers */
    name(label) {
      // Not `main`: that is for the page around to say.
      for (const named of [node, list]) named.setAttribute("aria-label", label);
    },
    /** @param {import("./modes.js").Mode | null} mode null when there is something to read */
    greet(mode) {
      const isNew = greeting.hidden && mode !== null;
      greeting.hidden = mode === null;
      if (mode === null) return;
      if (isNew) node.scrollTop = 0; // a greeting is read from its beginning
      setText(title, TEXT.greeting[mode].title);
      setText(text, TEXT.greeting[mode].text);
    },
  };
}

/**
 * The rows of a list, one for each thing by its id: made when it is new, changed in place while it
 * grows, removed when it is gone.
 *
 * @template {{id: string}} Thing
 * @param {HTMLElement} list
 * @param {(thing: Thing) => {node: HTMLElement, render: (thing: Thing) => boolean}} createRow
 *     `render` is true when the thing has just become complete
 * @param {(thing: Thing) => void} onComplete
 * @returns {(things: readonly Thing[]) => void}
 */
export function createRows(list, createRow, onComplete) {
  /** @type {Map<string, ReturnType<typeof createRow>>} */
  const rows = new Map();
  return (things) => {
    const ids = new Set(things.map((thing) => thing.id));
    for (const [id, row] of rows) {
      if (ids.has(id)) continue;
      row.node.remove();
      rows.delete(id);
    }
    let next = list.firstElementChild;
    for (const thing of things) {
      const row = rows.get(thing.id) ?? createRow(thing);
      if (row.node === next) next = next.nextElementSibling;
      else list.insertBefore(row.node, next);
      rows.set(thing.id, row);
      if (row.render(thing)) onComplete(thing);
    }
  };
}

/**
 * Tells screen readers what is worth interrupting a person for: texts once each, when they are
 * complete, and nothing that comes and goes by itself.
 */
export function createAnnouncer() {
  const node = element("div", { className: "announcer visually-hidden" });
  node.setAttribute("aria-live", "polite");
  return {
    node,
    /** What was said is forgotten: the page keeps no word of it. */
    clear: () => node.replaceChildren(),
    /** @param {string} text */
    say(text) {
      node.append(element("p", { textContent: text }));
      if (node.childElementCount > MOST_ANNOUNCED) node.firstElementChild?.remove();
    },
  };
}
