// @ts-check
/** Makes `<voice-agent>` known to the page that loads this module. */

import { VoiceAgent } from "./voice-agent.js";

customElements.define("voice-agent", VoiceAgent);
