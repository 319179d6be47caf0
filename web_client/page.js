// @ts-check
/** The served page: its address may choose the transport (`/?transport=webrtc`). */

const transport = new URLSearchParams(location.search).get("transport");
if (transport) document.querySelector("voice-agent")?.setAttribute("transport", transport);
await import("./main.js");

export {};
