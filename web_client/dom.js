// @ts-check
/** Shorthand for making elements. Texts only ever go in as `textContent`. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} [properties]
 * @param {...Node} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  Object.assign(node, properties);
  node.append(...children);
  return node;
}

/**
 * @param {string} label
 * @param {() => void} action
 * @param {string} [className]
 */
export function button(label, action, className = "") {
  return element("button", { type: "button", textContent: label, className, onclick: action });
}

/**
 * @param {string} path of a line drawing in a box of 24 by 24
 * @param {string} [className]
 */
export function icon(path, className = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon ${className}`);
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/**
 * Name an element so that the page around the custom element can style it with `::part()`.
 *
 * @template {Element} Node
 * @param {string} name
 * @param {Node} node
 * @returns {Node}
 */
export function part(name, node) {
  node.setAttribute("part", name);
  return node;
}

/**
 * Change a text only when it differs, so that screen readers say it once. A text that grows is
 * added to, so that what somebody has selected in it stays selected.
 *
 * @param {HTMLElement} node without child elements
 * @param {string} text
 */
export function setText(node, text) {
  const before = node.textContent ?? "";
  if (before === text) return;
  if (before && text.startsWith(before) && node.lastChild instanceof Text) {
    node.lastChild.appendData(text.slice(before.length));
  } else node.textContent = text;
}

/**
 * Give the person a text as a file, where the browser puts downloads.
 *
 * @param {string} name
 * @param {string} text
 */
export function saveFile(name, text) {
  const href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  element("a", { href, download: name }).click();
  URL.revokeObjectURL(href);
}
