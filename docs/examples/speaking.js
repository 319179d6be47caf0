// See speaking.html.

const state = document.getElementById("state");
const conversation = document.getElementById("conversation");

/** The browser's voice: says an answer sentence by sentence, and knows how far it has got. */
class Voice {
  itemId = "";
  text = ""; // of the whole answer, as far as it has come
  said = 0; // how much of it was said
  #given = 0; // how much of it the browser was given to say
  #answers = 0;

  get talking() {
    return this.said < this.text.length;
  }

  /** More of an answer; a new one takes the old one's place. */
  add(itemId, text) {
    if (itemId !== this.itemId) {
      this.stop();
      Object.assign(this, { itemId, text: "", said: 0 });
      this.#given = 0;
    }
    this.text += text;
    // Whole sentences sound better. A number like 3.5 is none's end.
    const ends = [...this.text.slice(this.#given).matchAll(/[.!?:]\s/g)];
    if (ends.length > 0) this.#speak(this.#given + ends.at(-1).index + 1);
  }

  /** The answer is complete. */
  finish() {
    this.#speak(this.text.length);
  }

  /** Be silent for a moment. */
  pause() {
    speechSynthesis.pause();
  }

  resume() {
    speechSynthesis.resume();
  }

  /** Say no more of this answer; how much of it was said. */
  stop() {
    this.#answers += 1; // what the browser still reports is of an answer that is over
    speechSynthesis.cancel();
    speechSynthesis.resume();
    this.text = this.text.slice(0, this.said);
    return this.said;
  }

  #speak(end) {
    const begin = this.#given;
    const sentence = this.text.slice(begin, end);
    this.#given = end;
    if (!sentence.trim()) {
      this.said = Math.max(this.said, end);
      return;
    }
    const answer = this.#answers;
    const reach = (place) => {
      if (answer === this.#answers) this.said = Math.max(this.said, place);
    };
    const utterance = new SpeechSynthesisUtterance(sentence);
    utterance.lang = document.documentElement.lang;
    // Not every voice tells its words; then it is known by the sentence.
    utterance.onboundary = ({ charIndex }) => reach(begin + charIndex);
    utterance.onend = () => reach(end);
    speechSynthesis.speak(utterance);
  }
}

const voice = new Voice();
let send = () => {};
let answering = false; // the server is writing an answer
let listening = false; // somebody is speaking

const REACTIONS = {
  "session.created": () => {
    // What the client secret did not settle: transcripts, to show what was heard.
    send({
      type: "session.update",
      session: { type: "realtime", audio: { input: { transcription: {} } } },
    });
  },
  "session.updated": () => {
    state.textContent = "Listening";
  },
  "input_audio_buffer.speech_started": () => {
    listening = true;
    voice.pause();
    // While the server is writing it decides: a "mhm" interrupts nothing.
    if (!answering) stopTalking();
  },
  "input_audio_buffer.speech_stopped": () => {
    listening = false;
  },
  "conversation.item.added": ({ item }) => {
    addLine(item.id, item.role === "user" ? "you" : "guide");
  },
  "conversation.item.input_audio_transcription.completed": ({ item_id, transcript }) => {
    line(item_id).textContent = transcript;
  },
  "response.created": () => {
    answering = true;
  },
  "response.output_text.delta": ({ item_id, delta }) => {
    line(item_id).append(delta);
    voice.add(item_id, delta);
    if (!listening) voice.resume();
  },
  "response.done": ({ response }) => {
    answering = false;
    if (listening || response.status === "cancelled") {
      stopTalking();
    } else {
      voice.finish();
      voice.resume();
    }
  },
  error: ({ error }) => {
    state.textContent = error.message;
  },
};

/** Be silent, and tell the server how far the voice had got. */
function stopTalking() {
  if (!voice.talking) {
    voice.resume();
    return;
  }
  const { itemId, text } = voice;
  const said = voice.stop();
  // The server counts characters, JavaScript counts halves of some of them.
  const characters = [...text.slice(0, said)].length;
  send({
    type: "conversation.item.truncate",
    item_id: itemId,
    content_index: 0,
    audio_end_ms: 0,
    text_end: characters,
  });
  const unsaid = document.createElement("span");
  unsaid.className = "unsaid";
  unsaid.textContent = text.slice(said);
  line(itemId).replaceChildren(text.slice(0, said), unsaid);
}

function line(itemId) {
  return document.getElementById(itemId);
}

function addLine(itemId, speaker) {
  const paragraph = document.createElement("p");
  paragraph.id = itemId;
  paragraph.className = speaker;
  conversation.append(paragraph);
}

async function connect() {
  const { server, secret } = await (await fetch("/session", { method: "POST" })).json();
  const microphone = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: true, noiseSuppression: true },
  });
  const peer = new RTCPeerConnection();
  peer.addTrack(microphone.getAudioTracks()[0]);
  const events = peer.createDataChannel("oai-events");
  events.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    REACTIONS[event.type]?.(event);
  };
  events.onclose = () => {
    state.textContent = "The connection has ended; load the page again.";
  };
  send = (event) => events.send(JSON.stringify(event));
  await peer.setLocalDescription(await peer.createOffer());
  const answer = await fetch(`${server}/v1/realtime/calls`, {
    method: "POST",
    headers: { Authorization: `Bearer ${secret}`, "Content-Type": "application/sdp" },
    body: peer.localDescription.sdp,
  });
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
}

document.getElementById("start").onclick = async ({ target }) => {
  target.disabled = true;
  state.textContent = "Connecting";
  try {
    await connect();
  } catch (error) {
    state.textContent = `That did not work: ${error.message}`;
    target.disabled = false;
  }
};
