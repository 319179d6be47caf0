// @ts-check
/** What covers a kiosk's page until somebody has touched it. */

import { button, element, icon, part } from "./dom.js";
import { TEXT } from "./messages.js";

const TOUCH_PATH =
  "M9 11V5a1.75 1.75 0 0 1 3.5 0v5.5l4.6.9a2.4 2.4 0 0 1 1.9 2.6l-.5 4a4 4 0 0 1-4 3.5h-2.2" +
  "a4 4 0 0 1-3.1-1.5L5 15.2a1.6 1.6 0 0 1 2.4-2L9 15z";

/** @param {() => void} tap */
export function createTapScreen(tap) {
  const surface = part("tap", button("", tap, "tap"));
  surface.append(
    icon(TOUCH_PATH),
    element("span", { className: "tap-title", textContent: TEXT.tapTitle }),
    element("span", { className: "tap-text", textContent: TEXT.tap }),
  );
  // All there is while it is there, so it has what a page must have for a screen reader.
  const title = element("h1", { className: "visually-hidden", textContent: TEXT.title });
  const node = element("section", { className: "tap-screen", hidden: true }, title, surface);
  node.setAttribute("aria-label", TEXT.tapTitle);
  return {
    node,
    /** @param {boolean} isNeeded */
    render(isNeeded) {
      if (node.hidden === !isNeeded) return;
      node.hidden = !isNeeded;
      if (isNeeded) surface.focus();
    },
  };
}
