// @ts-check
/**
 * The served page: its address sets the element's attributes, so that a link can open it as a
 * translation or a kiosk: `/?mode=translation&language=de&transport=webrtc&kiosk`.
 */

const ATTRIBUTES = ["mode", "language", "source-language", "transport", "kiosk", "idle-seconds"];

const query = new URLSearchParams(location.search);
const agent = document.querySelector("voice-agent");
for (const name of ATTRIBUTES) {
  const value = query.get(name);
  if (value !== null) agent?.setAttribute(name, value);
}
showModes();
await import("./main.js");

/** Links to the other modes keep the transport; a kiosk has none. */
function showModes() {
  const nav = document.querySelector("nav");
  if (!nav) return;
  nav.hidden = query.has("kiosk");
  for (const link of nav.querySelectorAll("a")) {
    const mode = link.dataset.mode ?? "";
    const target = new URLSearchParams(mode === "conversation" ? {} : { mode });
    const transport = query.get("transport");
    if (transport) target.set("transport", transport);
    link.href = `/?${target}`;
    const isCurrent = mode === (query.get("mode") ?? "conversation");
    if (isCurrent) link.setAttribute("aria-current", "page");
  }
}

export {};
