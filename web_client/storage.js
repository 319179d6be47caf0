// @ts-check
/** The browser's storage; null where cookies are blocked, which makes even looking at it throw. */

/**
 * @param {"sessionStorage" | "localStorage"} name kept as long as the tab, or until it is cleared
 * @returns {Storage | null}
 */
export function storage(name) {
  try {
    return window[name];
  } catch (error) {
    if (error instanceof DOMException && error.name === "SecurityError") return null;
    throw error;
  }
}
