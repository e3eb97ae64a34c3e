"use strict";
// The trial as it lies in the page, and what is computed from it. Times are in us. Nothing here touches the page.

const KINDS = ["vote", "entries", "heartbeat", "snapshot", "other"];
const NEVER = -1;

// Adds to the trial what drawing needs at hand.
function prepare(trial) {
  const m = trial.messages;
  m.count = m.n.length;
  m.kindOf = Uint8Array.from(m.kind, (kind) => Math.max(0, KINDS.indexOf(kind)));
  m.arrives = Float64Array.from(m.n, (_, i) => arrival(m, i, trial.end));
  m.replies = Float64Array.from(m.n, (_, i) => (m.left[i] === NEVER ? NEVER : m.left[i]));
  m.returns = Float64Array.from(m.back, (back) => (back === NEVER ? trial.end : back));
  m.isLost = m.fate.map((place) => !["delivered", ""].includes(trial.texts[place]));
  m.isYes = m.answer.map((place) => /^(granted|ok)/.test(trial.texts[place]));
  m.endOf = m.n.map((_, i) =>
    Math.max(m.arrives[i], m.returns[i], m.ended[i] === NEVER && m.began[i] !== NEVER ? trial.end : m.ended[i]),
  );
  m.blocks = blocks(m.sent, m.endOf);
  m.shown = new Uint8Array(m.count).fill(1);
  const k = trial.marks;
  k.count = k.n.length;
  trial.terms = [...new Set([...m.term, ...trial.stretches.map(([, , , , term]) => term)])]
    .filter((t) => t > 0)
    .sort((a, b) => a - b);
  trial.at = places(trial);
  trial.modes = modes(trial);
  trial.lanes = Array.from({ length: trial.servers }, (_, server) => ({
    stretches: trial.stretches.filter((s) => s[0] === server),
    down: trial.down.filter((s) => s[0] === server),
    cut: trial.cut.filter((s) => s[0] === server),
    marks: [...k.n.keys()].filter((i) => k.server[i] === server),
  }));
  return trial;
}

// When a request is drawn to have come to an end: at its server, or where it was lost.
function arrival(m, i, end) {
  if (m.reached[i] !== NEVER) return m.reached[i];
  return m.back[i] === NEVER ? Math.min(end, m.sent[i] + 1000) : Math.min(m.back[i], m.sent[i] + 30000);
}

// Of each 64 in a row the first begin and the last end, so that what is out of view is passed over in blocks.
function blocks(begins, ends) {
  const found = [];
  for (let i = 0; i < begins.length; i += 64) {
    const of = ends.slice(i, i + 64);
    found.push([begins[i], of.reduce((a, b) => Math.max(a, b), 0)]);
  }
  return found;
}

// Calls `see` with each message that is shown and touches the time from `a` to `b`.
function eachMessage(m, a, b, see) {
  for (let block = 0; block < m.blocks.length; block++) {
    const [begin, end] = m.blocks[block];
    if (begin > b) return;
    if (end < a) continue;
    const last = Math.min(m.count, (block + 1) * 64);
    for (let i = block * 64; i < last; i++) {
      if (m.shown[i] && m.sent[i] <= b && m.endOf[i] >= a) see(i);
    }
  }
}

// The number of an event: where it is drawn. {message: i} or {mark: i} or {story: i}
function places(trial) {
  const at = new Map();
  trial.messages.n.forEach((n, i) => at.set(n, { message: i }));
  trial.marks.n.forEach((n, i) => at.set(n, { mark: i }));
  trial.story.forEach(([n], i) => at.set(n, { story: i }));
  return at;
}

// The network's mode over time, in words: [[from, to, words], ...]
function modes(trial) {
  const now = { Reliable: true, LongReordering: false, LongDelays: false };
  const found = [];
  let since = trial.begin;
  const close = (time) => {
    const words = [now.Reliable ? "reliable" : "unreliable: delays, drops one in ten"];
    if (now.LongReordering) words.push("long reordering");
    if (time > since) found.push([since, time, words.join(", "), now.Reliable]);
    since = time;
  };
  for (const [time, mode, yes] of trial.network) {
    if (now[mode] === yes) continue;
    if (mode !== "LongDelays") close(time);
    now[mode] = yes;
  }
  close(trial.end);
  return found;
}

// --- what stands where at a time -----------------------------------------------------------------------------------

function spanAt(spans, time) {
  return spans.find(([, begin, end]) => begin <= time && time < end);
}

// What is known of a server at a time.
function serverAt(trial, server, time) {
  const lane = trial.lanes[server];
  const stretch = spanAt(lane.stretches, time) ?? (time >= trial.end ? lane.stretches.at(-1) : undefined);
  const down = Boolean(spanAt(lane.down, time));
  const latest = (kind) => lane.marks.findLast((i) => trial.marks.time[i] <= time && trial.marks.kind[i] === kind);
  return {
    down,
    cut: Boolean(spanAt(lane.cut, time)),
    role: down ? "crashed" : stretch ? stretch[3] : "unknown",
    term: down || !stretch ? 0 : stretch[4],
    told: down || !stretch ? 0 : stretch[5],
    applied: latest("applied"),
    saved: latest("saved"),
  };
}

// The Calls that a server has made and that have not returned at a time; and the handlers that run in it.
function underWay(trial, server, time) {
  const m = trial.messages;
  const calls = [];
  const handlers = [];
  for (let i = 0; i < m.count && m.sent[i] <= time; i++) {
    if (m.server[i] === server && m.returns[i] > time) calls.push(i);
    const runs = m.began[i] !== NEVER && m.began[i] <= time && (m.ended[i] === NEVER || m.ended[i] > time);
    if (m.to[i] === server && runs) handlers.push(i);
  }
  return { calls, handlers };
}

// --- places along the axis -----------------------------------------------------------------------------------------

// A time's place on the axis, and back. True time: the place is the time. Equal steps: one step from each thing that is
// drawn to the next, straight in between.
function trueTime(trial) {
  const margin = Math.max(1000, (trial.end - trial.begin) * 0.01);
  return { of: (time) => time, back: (place) => place, first: trial.begin - margin, last: trial.end + margin };
}

function equalSteps(trial) {
  const m = trial.messages;
  const times = [trial.begin, trial.end];
  for (let i = 0; i < m.count; i++) {
    if (!m.shown[i]) continue;
    times.push(m.sent[i], m.arrives[i]);
    if (m.replies[i] !== NEVER) times.push(m.replies[i]);
    if (m.back[i] !== NEVER) times.push(m.back[i]);
  }
  for (const [, time] of trial.story) times.push(time);
  for (const [, begin] of trial.stretches) times.push(begin);
  for (const { time } of trial.alarms) times.push(time);
  const sorted = Float64Array.from(new Set(times)).sort();
  const of = (time) => {
    const i = atOrBefore(sorted, time);
    if (i < 0) return (time - sorted[0]) / 1e6;
    if (i === sorted.length - 1) return i + (time - sorted[i]) / 1e6;
    return i + (time - sorted[i]) / (sorted[i + 1] - sorted[i]);
  };
  const back = (place) => {
    const i = Math.max(0, Math.min(sorted.length - 1, Math.floor(place)));
    if (i === sorted.length - 1) return sorted[i] + (place - i) * 1e6;
    return sorted[i] + (place - i) * (sorted[i + 1] - sorted[i]);
  };
  return { of, back, first: -1, last: sorted.length };
}

// The place of the last value that is at most `value`; -1 if there is none. `sorted` rises.
function atOrBefore(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// --- words ---------------------------------------------------------------------------------------------------------

const seconds = (us, digits = 3) => `${(us / 1e6).toFixed(digits)} s`;

// What became of a message, in a sentence.
function fateOf(trial, i) {
  const m = trial.messages;
  const fate = trial.texts[m.fate[i]];
  const took = m.back[i] === NEVER ? "" : ` after ${((m.back[i] - m.sent[i]) / 1000).toFixed(1)} ms`;
  const sentences = {
    "":
      m.began[i] === NEVER
        ? "It is still on its way when the trial ends."
        : "Its handler has not returned when the trial ends.",
    delivered: `Answered${took}.`,
    disabled: `Lost: one of the two is disconnected or crashed. Call returned False${took}.`,
    "request dropped": `Lost: the network dropped the request. Call returned False${took}.`,
    "reply dropped": `Lost: the handler ran, and the network dropped its reply. Call returned False${took}.`,
    "server gone": `Lost: the server crashed or was cut off before its reply left. Call returned False${took}.`,
    "handler failed": `Lost: the handler failed. Call returned False${took}.`,
    "network closed": "The trial ended first.",
  };
  const late = m.late[i] ? ` Its reply was held back for ${m.late[i]} ms.` : "";
  return (sentences[fate] ?? `Lost: ${fate}. Call returned False${took}.`) + late;
}

function titleOf(trial, i) {
  const m = trial.messages;
  return `${trial.texts[m.method[i]].replace(/^.*\./, "")}  ${m.server[i]} → ${m.to[i]}`;
}

const SIGNS = { failure: "✖", paper: "◆", race: "▲", applied: "≠" };

// All that can be searched and read, in the order of events: {n, time, server, text, what}
function asText(trial) {
  const m = trial.messages;
  const k = trial.marks;
  const lines = [];
  for (let i = 0; i < m.count; i++) {
    const answer = trial.texts[m.answer[i]];
    const asks = `${trial.texts[m.method[i]]} to server ${m.to[i]}: ${trial.texts[m.label[i]]}.`;
    const text = [asks, answer && `It answers ${answer}.`, fateOf(trial, i)].filter(Boolean).join(" ");
    lines.push({ n: m.n[i], time: m.sent[i], server: m.server[i], text, what: { message: i } });
  }
  for (let i = 0; i < k.count; i++) {
    lines.push({
      n: k.n[i],
      time: k.time[i],
      server: k.server[i],
      text: `${WORDS[k.kind[i]] ?? ""}${trial.texts[k.text[i]]}`,
      what: { mark: i },
    });
  }
  trial.story.forEach(([n, time, text], i) => lines.push({ n, time, server: NEVER, text, what: { story: i } }));
  for (const [server, time, , role, term, told] of trial.stretches) {
    const text =
      role === "unknown"
        ? told
          ? `was told of term ${told}`
          : "role unknown"
        : `${role}${term ? ` of term ${term}` : ""}`;
    lines.push({ n: 0, time, server, text, what: { server, time } });
  }
  trial.alarms.forEach((alarm, i) =>
    lines.push({
      n: Infinity,
      time: alarm.time,
      server: NEVER,
      text: `${SIGNS[alarm.kind]} ${alarm.text}`,
      what: { alarm: i },
    }),
  );
  return lines.sort((a, b) => a.time - b.time || a.n - b.n);
}

const WORDS = { applied: "applied ", printed: "prints: " };

// Whether a line has all words of a query; args and replies are looked through, too.
function matcher(trial, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const m = trial.messages;
  const inValues = trial.values.map((value) => JSON.stringify(value)?.toLowerCase() ?? "");
  return (line) => {
    let text = `${line.server === NEVER ? "" : `server ${line.server} `}${line.text}`.toLowerCase();
    if ("message" in line.what)
      text += ` ${inValues[m.args[line.what.message]]} ${inValues[m.reply[line.what.message]]}`;
    return words.every((word) => text.includes(word));
  };
}
