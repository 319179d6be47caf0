// @ts-check
/** Names of languages for people, from the browser's own tables. */

const ENGLISH = names("en");

/**
 * @param {string} code BCP-47
 * @returns {string} in English, and in the language itself where that differs: `German (Deutsch)`
 */
export function languageLabel(code) {
  const name = languageName(code);
  const own = names(code)?.of(code) ?? name;
  const same = own === code || own.toLowerCase() === name.toLowerCase();
  return same ? name : `${name} (${own})`;
}

/**
 * @param {string} code BCP-47
 * @returns {string} in English; the code where nobody knows it
 */
export function languageName(code) {
  if (!code) return "";
  return ENGLISH?.of(code) ?? code;
}

/**
 * @param {string} code
 * @returns {Intl.DisplayNames | null}
 */
function names(code) {
  try {
    return new Intl.DisplayNames([code], { type: "language" });
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}
