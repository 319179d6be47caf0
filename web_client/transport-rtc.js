// @ts-check
/** The Realtime protocol over WebRTC: events in a data channel, the microphone as a track. */

import { EXPIRED_ERROR_CODE, SERVER_EVENT } from "./messages.js";
import { failureOfStatus } from "./server-info.js";

/** @typedef {import("./messages.js").Failure} Failure */
/** @typedef {import("./transport-ws.js").Transport} Transport */
/** @typedef {import("./transport-ws.js").TransportHandlers} TransportHandlers */

const CHANNEL = "oai-events";
/** WebRTC has no close codes: as a WebSocket's that was lost. */
const GONE_CODE = 1006;
/** A connection that has lost its way gets so long to find it again. */
const LOST_AFTER_MS = 4_000;
/** Addresses of this machine take milliseconds, those that other servers tell a while. */
const GATHER_LOCAL_MS = 1_000;
const GATHER_MS = 3_000;
const ICE_SERVERS_MS = 2_000;
/** From the server's answer to the first event; without obstacles it is a fraction of a second. */
const CONNECT_WITHIN_MS = 10_000;

/** Why a call was refused, by the server's error code. */
const FAILURE_OF_CODE = new Map(
  /** @type {[string, Failure][]} */ ([
    ["session_limit_reached", "server-full"],
    ["shutting_down", "server-restarting"],
    ["engine_failed", "engine-failed"],
    ["engine_unavailable", "engine-starting"],
  ]),
);

/** The call did not come about; `failure` names the sentence to show. */
class CallRefused extends Error {
  /** @param {Failure} failure */
  constructor(failure) {
    super(failure);
    this.failure = failure;
  }
}

/** Whether this browser makes WebRTC connections at all; some policies take it away. */
export function webRtcIsThere() {
  return typeof RTCPeerConnection === "function";
}

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

  /** @type {Failure | undefined} */
  let failure;

  const finish = () => {
    over = true;
    clearTimeout(lostTimer);
    clearTimeout(connectTimer);
    peer.close();
  };
  const end = () => {
    if (over) return;
    finish();
    handlers.onEnded({ code: GONE_CODE, reason: "", opened, failure });
  };
  const endBlocked = () => {
    failure = "webrtc-blocked";
    end();
  };
  let connectTimer = 0;

  channel.onopen = () => {
    opened = true;
    clearTimeout(connectTimer);
  };
  channel.onmessage = (message) => {
    if (over) return;
    const event = JSON.parse(message.data);
    // There are no close codes: this error says that the end is no accident.
    if (event.type === SERVER_EVENT.error && event.error.code === EXPIRED_ERROR_CODE) {
      failure = "session-ended";
    }
    handlers.onEvent(event);
  };
  channel.onclose = end;
  peer.onconnectionstatechange = () => {
    clearTimeout(lostTimer);
    if (peer.connectionState === "failed") {
      if (opened) end();
      else endBlocked();
    } else if (peer.connectionState === "disconnected") {
      lostTimer = setTimeout(end, LOST_AFTER_MS);
    }
  };
  connect(peer, url, key).then(
    () => {
      if (!opened && !over) connectTimer = setTimeout(endBlocked, CONNECT_WITHIN_MS);
    },
    (error) => {
      console.info("the call was not answered", error);
      if (error instanceof CallRefused) failure = error.failure;
      end();
    },
  );

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
  /** @type {Record<string, string>} */
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const iceServers = await fetchIceServers(url, headers);
  if (iceServers.length > 0) peer.setConfiguration({ iceServers });
  await peer.setLocalDescription(await peer.createOffer());
  await gathered(peer, iceServers.length > 0 ? GATHER_MS : GATHER_LOCAL_MS);
  const answer = await fetch(url, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/sdp" },
    body: peer.localDescription?.sdp ?? "",
  });
  if (answer.status !== 201) throw new CallRefused(await failureOfAnswer(answer));
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
}

/**
 * @param {Response} answer
 * @returns {Promise<Failure>}
 */
async function failureOfAnswer(answer) {
  // What answers may be a proxy, in any words.
  const body = await answer.json().catch(() => null);
  // Without WebRTC (501), or with none that understands this browser (400), there is a WebSocket.
  if (answer.status === 501 || answer.status === 400) return "webrtc-blocked";
  return FAILURE_OF_CODE.get(body?.error?.code) ?? failureOfStatus(answer.status);
}

/**
 * The STUN and TURN servers that the server hands out. Without them a call may still succeed, and
 * if this is refused the call is too, and says why.
 *
 * @param {URL} server any address on the server
 * @param {Record<string, string>} headers
 * @returns {Promise<RTCIceServer[]>}
 */
async function fetchIceServers(server, headers) {
  try {
    const answer = await fetch(new URL("/v1/realtime/ice_servers", server), {
      headers,
      cache: "no-store",
      signal: AbortSignal.timeout(ICE_SERVERS_MS),
    });
    return answer.ok ? ((await answer.json()).ice_servers ?? []) : [];
  } catch (error) {
    console.info("no ICE servers", error);
    return [];
  }
}

/**
 * Wait for all of our addresses, or for so long: the server takes an offer once.
 *
 * @param {RTCPeerConnection} peer
 * @param {number} mostMs
 * @returns {Promise<void>}
 */
function gathered(peer, mostMs) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(done, mostMs);
    if (peer.iceGatheringState === "complete") done();
    peer.onicegatheringstatechange = () => {
      if (peer.iceGatheringState === "complete") done();
    };
  });
}
