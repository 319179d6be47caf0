// @ts-check
/** The Realtime protocol over WebRTC: events in a data channel, the microphone as a track. */

/** @typedef {import("./transport-ws.js").Transport} Transport */
/** @typedef {import("./transport-ws.js").TransportHandlers} TransportHandlers */

const CHANNEL = "oai-events";
/** WebRTC has no close codes: as a WebSocket's that was lost. */
const GONE_CODE = 1006;
/** A connection that has lost its way gets so long to find it again. */
const LOST_AFTER_MS = 4_000;

/**
 * Open a call.
 *
 * The audio track is agreed upon at once and silent until there is a microphone, so switching it
 * on and off, and changing the device, needs no second offer.
 *
 * @param {URL} url of `/v1/realtime/calls`
 * @param {string} key empty for none
 * @param {TransportHandlers} handlers
 * @returns {Transport}
 */
export function openWebRtc(url, key, handlers) {
  const peer = new RTCPeerConnection();
  const { sender } = peer.addTransceiver("audio", { direction: "sendonly" });
  const channel = peer.createDataChannel(CHANNEL);
  let opened = false;
  let over = false;
  let lostTimer = 0;

  const finish = () => {
    over = true;
    clearTimeout(lostTimer);
    peer.close();
  };
  const end = () => {
    if (over) return;
    finish();
    handlers.onEnded({ code: GONE_CODE, reason: "", opened });
  };

  channel.onopen = () => {
    opened = true;
  };
  channel.onmessage = (message) => {
    if (!over) handlers.onEvent(JSON.parse(message.data));
  };
  channel.onclose = end;
  peer.onconnectionstatechange = () => {
    clearTimeout(lostTimer);
    if (peer.connectionState === "failed") end();
    else if (peer.connectionState === "disconnected") lostTimer = setTimeout(end, LOST_AFTER_MS);
  };
  connect(peer, url, key).catch((error) => {
    console.info("the call was not answered", error);
    end();
  });

  return {
    sendEvent: (event) => {
      if (channel.readyState === "open") channel.send(JSON.stringify(event));
    },
    sendAudio: () => {}, // the track carries it
    unsentAudioMs: () => 0,
    useMicrophone: (stream) => {
      void sender.replaceTrack(stream?.getAudioTracks()[0] ?? null);
    },
    close: finish,
  };
}

/**
 * @param {RTCPeerConnection} peer
 * @param {URL} url
 * @param {string} key
 */
async function connect(peer, url, key) {
  await peer.setLocalDescription(await peer.createOffer());
  await gathered(peer);
  /** @type {Record<string, string>} */
  const headers = { "Content-Type": "application/sdp" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = await fetch(url, {
    method: "POST",
    headers,
    body: peer.localDescription?.sdp ?? "",
  });
  if (answer.status !== 201) throw new Error(`the server answered ${answer.status}`);
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
}

/**
 * Wait for all of our addresses, or a second: the server takes an offer once.
 *
 * @param {RTCPeerConnection} peer
 * @returns {Promise<void>}
 */
function gathered(peer) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(done, 1_000);
    if (peer.iceGatheringState === "complete") done();
    peer.onicegatheringstatechange = () => {
      if (peer.iceGatheringState === "complete") done();
    };
  });
}
