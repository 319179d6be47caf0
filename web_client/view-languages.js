// @ts-check
/** Which language is spoken, and which it becomes; above the columns of a translation. */

import { element, icon, part, setText } from "./dom.js";
import { languageLabel, languageName } from "./language-names.js";
import { TEXT } from "./messages.js";

const ARROW_PATH = "M4 12h15M13 6l6 6-6 6";
/** With fewer than this many the picker says why there are no others. */
const FEW = 2;

/**
 * @typedef {object} LanguageActions
 * @property {(code: string) => void} chooseSource empty to have it detected
 * @property {(code: string) => void} chooseTarget
 */

/** @param {LanguageActions} actions */
export function createLanguages(actions) {
  const source = createPicker(TEXT.spokenLanguage, actions.chooseSource);
  const target = createPicker(TEXT.targetLanguage, actions.chooseTarget);
  const arrow = icon(ARROW_PATH, "arrow");
  const few = element("p", { className: "hint", textContent: TEXT.fewTargets });
  const node = part(
    "languages",
    element("section", { className: "languages", hidden: true }, source.node, arrow, target.node, few),
  );
  node.setAttribute("aria-label", TEXT.languages);
  return {
    node,
    /** @param {import("./view.js").Model} model */
    render({ mode, kiosk, session, info }) {
      node.hidden = mode === "conversation";
      const translates = mode === "translation";
      arrow.toggleAttribute("hidden", !translates);
      target.node.hidden = !translates;
      const { languages } = session;
      source.render({ "": TEXT.detected, ...labels(info.sources) }, languages.source, kiosk);
      if (!translates) {
        few.hidden = true;
        return;
      }
      const isFew = info.targets.length > 0 && info.targets.length < FEW;
      few.hidden = !isFew;
      const others = isFew ? TEXT.otherTargets : "";
      target.render(labels(info.targets), languages.target, kiosk, others);
    },
  };
}

/**
 * @param {readonly string[]} codes
 * @returns {Record<string, string>} labels by code, in the order of the alphabet
 */
function labels(codes) {
  const known = LABELS.get(codes);
  if (known) return known;
  const named = codes.map((code) => /** @type {const} */ ([code, languageLabel(code)]));
  named.sort(([, one], [, other]) => one.localeCompare(other));
  const made = Object.fromEntries(named);
  LABELS.set(codes, made);
  return made;
}

/** Names of a hundred languages take a while: made once for each list.
 * @type {WeakMap<readonly string[], Record<string, string>>} */
const LABELS = new WeakMap();

/**
 * @param {string} label
 * @param {(code: string) => void} choose
 */
function createPicker(label, choose) {
  const select = element("select", { onchange: () => choose(select.value) });
  select.setAttribute("aria-label", label);
  // A kiosk shows the language without offering others.
  const fixed = element("span", { className: "fixed", hidden: true });
  const node = element(
    "label",
    { className: "language" },
    element("span", { className: "who", textContent: label }),
    select,
    fixed,
  );
  let offered = "";
  return {
    node,
    /**
     * @param {Record<string, string>} choices label by code
     * @param {string} chosen code
     * @param {boolean} isFixed
     * @param {string} [others] why there are no others; shown as a choice that cannot be made
     */
    render(choices, chosen, isFixed, others = "") {
      // A language with a region is in no list, and is in effect all the same.
      const all = chosen in choices ? choices : { ...choices, [chosen]: languageName(chosen) };
      const key = `${Object.keys(all).join()} ${others}`;
      if (key !== offered) {
        offered = key;
        const options = Object.entries(all).map(([value, textContent]) =>
          element("option", { value, textContent }),
        );
        if (others) options.push(element("option", { textContent: others, disabled: true }));
        select.replaceChildren(...options);
      }
      if (select.value !== chosen) select.value = chosen;
      setText(fixed, all[chosen] ?? "");
      select.hidden = isFixed;
      fixed.hidden = !isFixed;
    },
  };
}
