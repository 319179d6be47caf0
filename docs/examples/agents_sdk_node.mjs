// Speaks recordings to the server through OpenAI's agents SDK for JavaScript, over a WebSocket.
//
//     npm install @openai/agents-realtime
//     node agents_sdk_node.mjs ws://127.0.0.1:8080/v1/realtime question.wav another.wav
//
// WAV files: 16-bit PCM, mono, 24 kHz.
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { RealtimeAgent, RealtimeSession } from "@openai/agents-realtime";

const [url, ...recordings] = process.argv.slice(2);
const WAV_HEADER_BYTES = 44;
const PIECE_MS = 40;
const PIECE_BYTES = 48 * PIECE_MS;

const agent = new RealtimeAgent({ name: "Guide", instructions: "Answer in one short sentence." });
const session = new RealtimeSession(agent, {
  transport: "websocket",
  config: {
    outputModalities: ["text"],
    // Recordings have pauses in them; left out, the SDK asks for semantic_vad.
    audio: { input: { turnDetection: { type: "server_vad", silenceDurationMs: 1000 } } },
  },
});
session.on("error", ({ error }) => {
  console.error(error);
  process.exit(1);
});

// Without a key on the server any will do.
await session.connect({ url, apiKey: process.env.VOICE_AGENT_API_KEY ?? "none" });
for (const [index, file] of recordings.entries()) {
  const answered = untilAnswered(index + 1);
  await speak((await readFile(file)).subarray(WAV_HEADER_BYTES));
  const { heard, answer } = await answered;
  console.log(`heard: ${heard}`);
  console.log(`answer: ${answer}`);
}
session.close();

/** Send sound as a microphone does: in real time, and silence after it. */
async function speak(pcm) {
  const silence = Buffer.alloc(48 * 1500);
  const sound = Buffer.concat([pcm, silence]);
  const beganMs = performance.now();
  for (let at = 0; at < sound.length; at += PIECE_BYTES) {
    const dueMs = beganMs + (at / PIECE_BYTES) * PIECE_MS;
    await sleep(Math.max(0, dueMs - performance.now()));
    session.sendAudio(new Uint8Array(sound.subarray(at, at + PIECE_BYTES)).buffer);
  }
}

/** Wait until the SDK's own history holds so many turns, each with its words and its answer. */
function untilAnswered(turns) {
  return new Promise((resolve) => {
    session.on("history_updated", (history) => {
      const messages = history.filter((item) => item.type === "message");
      const heard = messages
        .filter((item) => item.role === "user")
        .map((item) => item.content[0]?.transcript)
        .filter(Boolean);
      const answers = messages
        .filter((item) => item.role === "assistant" && item.status === "completed")
        .map((item) => item.content[0]?.text)
        .filter(Boolean);
      if (heard.length >= turns && answers.length >= turns) {
        resolve({ heard: heard[turns - 1], answer: answers[turns - 1] });
      }
    });
  });
}
