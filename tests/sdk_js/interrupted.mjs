// A typed question is answered at length; a recording speaks into the answer.
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { RealtimeAgent, RealtimeSession } from "@openai/agents-realtime";

const [url, recording] = process.argv.slice(2);
const agent = new RealtimeAgent({ name: "Guide", instructions: "You tell long stories." });
const session = new RealtimeSession(agent, {
  transport: "websocket",
  config: { outputModalities: ["text"] },
});
session.on("error", ({ error }) => {
  console.error(error);
  process.exit(1);
});
await session.connect({ url, apiKey: process.env.VOICE_AGENT_API_KEY });

let speaking = null;
let heard = "";
let ended = "";
let answered = false;
session.on("transport_event", (event) => {
  if (event.type === "response.output_text.delta") {
    speaking ??= speak();
    answered = ended !== "";
  }
  if (event.type === "conversation.item.input_audio_transcription.completed") {
    heard = event.transcript;
  }
  if (event.type === "response.done") {
    ended ||= `${event.response.status} ${event.response.status_details?.reason}`;
  }
  if (heard && answered) setTimeout(finish, 0);
});
session.sendMessage("Tell me a long story about a king and his three sons.");

async function speak() {
  const sound = Buffer.concat([(await readFile(recording)).subarray(44), Buffer.alloc(48 * 4000)]);
  for (let at = 0; at < sound.length; at += 1920) {
    session.sendAudio(new Uint8Array(sound.subarray(at, at + 1920)).buffer);
    await sleep(40);
  }
}

function finish() {
  const answers = session.history.filter(({ role }) => role === "assistant");
  const statuses = answers.map(({ status }) => status);
  console.log(JSON.stringify({ ended, heard, statuses }));
  process.exit(0);
}
