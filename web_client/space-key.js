// @ts-check
/** Holding the space bar down as a button, unless the key belongs to what has the focus. */

const USES_SPACE = "a, button, input, select, summary, textarea, [contenteditable], [role=button]";

/**
 * @typedef {object} SpaceHandlers
 * @property {() => boolean} isWanted
 * @property {() => void} onDown
 * @property {() => void} onUp also when the window loses the keyboard while it is down
 */

/**
 * @param {SpaceHandlers} handlers
 * @returns {AbortController} ends it
 */
export function talkWithSpace({ isWanted, onDown, onUp }) {
  const controller = new AbortController();
  let isDown = false;
  const release = () => {
    if (!isDown) return;
    isDown = false;
    onUp();
  };
  const options = { signal: controller.signal };
  window.addEventListener(
    "keydown",
    (event) => {
      if (event.code !== "Space" || event.ctrlKey || event.altKey || event.metaKey) return;
      const [target] = event.composedPath();
      if (!isWanted() || (target instanceof Element && target.closest(USES_SPACE))) return;
      event.preventDefault(); // it would scroll
      if (isDown) return; // the key repeats
      isDown = true;
      onDown();
    },
    options,
  );
  window.addEventListener("keyup", (event) => event.code === "Space" && release(), options);
  window.addEventListener("blur", release, options);
  return controller;
}
