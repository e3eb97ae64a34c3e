// The words on the page: its head, the details of what is marked, the tip at the pointer, and the trial as text.
// Everything is inserted as text; there is no place in these scripts that makes markup of a string.

// make("p", {class: "x"}, "text", anotherElement)
function make(tag, attributes = {}, ...content) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...content.filter((part) => part !== null && part !== undefined && part !== false));
  return element;
}

const byId = (id) => document.getElementById(id);

function showHead(trial, jump) {
  byId("test").textContent = trial.test;
  const failure = trial.alarms.find((alarm) => alarm.kind === "failure");
  const but = {
    paper: "broke a rule of the paper",
    race: "has a data race",
    applied: "servers applied different commands",
  }[trial.alarms[0]?.kind];
  const passed = but ? `The test passed, but ${but}.` : "The test passed.";
  byId("verdict").textContent = failure?.text ?? (trial.message || passed);
  byId("more").textContent = failure ? shortFacts(failure) : "";
  byId("verdict").className = failure || but ? "failed" : "passed";
  const facts = [
    trial.seed === null ? "" : `seed ${trial.seed}`,
    trial.how,
    `${trial.servers} servers`,
    `${trial.messages.count} messages`,
    seconds(trial.end, 1),
  ];
  byId("facts").append(facts.filter(Boolean).join(" · "));
  if (trial.repeat) byId("facts").append(" · ", make("code", {}, trial.repeat));
  if (trial.left_out)
    byId("facts").append(make("br"), `The first ${trial.left_out} events are left out: they would be too many.`);
  byId("causes").append(...trial.causes.map((cause) => make("li", {}, cause)));
  byId("alarms").append(
    ...trial.alarms
      .map(
        (alarm, index) =>
          alarm !== failure &&
          make(
            "li",
            {},
            make(
              "button",
              { class: `alarm ${alarm.kind}`, onclick: () => jump(index) },
              make("b", {}, `${SIGNS[alarm.kind]} ${seconds(alarm.time)}`),
              ` ${alarm.text}`,
            ),
          ),
      )
      .filter(Boolean),
  );
}

// What a failure says behind the lab's own sentence, if it is a line.
function shortFacts({ text, detail }) {
  const more = detail.startsWith(text) ? detail.slice(text.length).replace(/^: /, "") : "";
  return more.includes("\n") || more.length > 400 ? "" : more;
}

// --- details ---

// Rows of a name and a value.
function table(rows) {
  return make(
    "dl",
    {},
    ...rows
      .filter(([, value]) => value !== "" && value !== undefined)
      .flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
  );
}

// Args or a reply: what was sent. Fields that hold their zero value are not.
function fields(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value))
    return make("p", {}, value === null ? "nothing" : JSON.stringify(value));
  const entries = Object.entries(value);
  if (!entries.length) return make("p", { class: "quiet" }, "all zero");
  return table(entries.map(([name, part]) => [name, Array.isArray(part) ? list(part) : worded(part)]));
}

const worded = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function list(parts) {
  return make(
    "ol",
    { class: "entries" },
    ...parts.map((part) =>
      make(
        "li",
        {},
        part && typeof part === "object" && !Array.isArray(part)
          ? Object.entries(part)
              .map(([name, value]) => `${name} ${worded(value)}`)
              .join(", ")
          : worded(part),
      ),
    ),
  );
}

function messageDetails(trial, i, go) {
  const m = trial.messages;
  const since = (time) =>
    time === NEVER
      ? undefined
      : `${seconds(time, 6)}${time > m.sent[i] ? `  (+${((time - m.sent[i]) / 1000).toFixed(3)} ms)` : ""}`;
  const kind = KINDS[m.kindOf[i]];
  return [
    make("h2", {}, make("span", { class: `sign ${kind}` }), trial.texts[m.method[i]]),
    make("p", { class: "route" }, `server ${m.server[i]} → server ${m.to[i]}`),
    make("p", {}, fateOf(trial, i)),
    make("h3", {}, "args"),
    fields(trial.values[m.args[i]]),
    make("h3", {}, "reply"),
    m.ended[i] === NEVER ? make("p", { class: "quiet" }, "none") : fields(trial.values[m.reply[i]]),
    make("h3", {}, "times"),
    table([
      ["sent", since(m.sent[i])],
      ["reached", since(m.reached[i])],
      ["handler began", since(m.began[i])],
      ["handler ended", since(m.ended[i])],
      ["reply left", since(m.left[i])],
      [m.isLost[i] ? "given up" : "Call returned", since(m.back[i])],
    ]),
    make(
      "p",
      { class: "steps" },
      ...[m.server[i], m.to[i]]
        .filter((s, k, all) => all.indexOf(s) === k)
        .flatMap((server) => [
          make(
            "button",
            { onclick: () => go(server, -1), "aria-label": `previous message of server ${server}` },
            `‹ server ${server}`,
          ),
          make(
            "button",
            { onclick: () => go(server, 1), "aria-label": `next message of server ${server}` },
            `server ${server} ›`,
          ),
        ]),
    ),
  ];
}

function markDetails(trial, i) {
  const k = trial.marks;
  const titles = {
    applied: "applied",
    accepted: "Start accepted",
    saved: "saved",
    snapshot: "snapshot made",
    installed: "snapshot taken",
    printed: "printed",
    died: "a thread died",
  };
  return [
    make("h2", {}, `server ${k.server[i]}: ${titles[k.kind[i]] ?? k.kind[i]}`),
    make("p", {}, `at ${seconds(k.time[i], 6)}`),
    make("pre", {}, trial.texts[k.text[i]]),
  ];
}

function alarmDetails(trial, i, show) {
  const alarm = trial.alarms[i];
  const titles = {
    failure: "The test failed",
    paper: "The paper forbids this",
    race: "Data race",
    applied: "Applied differently",
  };
  const named = alarm.shows.filter(({ n }, k) => alarm.shows.findIndex((place) => place.n === n) === k);
  const events = named.map((place) => {
    const what = trial.at.get(place.n);
    const i = what?.message;
    const name = i === undefined ? `server ${place.server}` : `${titleOf(trial, i)}, ${saidBy(trial, i)}`;
    return make(
      "li",
      {},
      make(
        "button",
        { onclick: () => show(what ?? { server: place.server, time: place.time }) },
        `${seconds(place.time)}  ${name}`,
      ),
    );
  });
  return [
    make("h2", { class: alarm.kind }, `${SIGNS[alarm.kind]} ${titles[alarm.kind]}`),
    make("p", {}, `at ${seconds(alarm.time)}`),
    !alarm.detail.startsWith(alarm.text) && make("p", {}, alarm.text),
    alarm.detail && make("pre", {}, alarm.detail),
    events.length > 0 && make("h3", {}, alarm.kind === "race" ? "where" : "what does not agree"),
    events.length > 0 && make("ul", { class: "plain" }, ...events),
    alarm.kind === "failure" && trial.threads.length > 0 && make("h3", {}, "where the threads were"),
    alarm.kind === "failure" &&
      trial.threads.length > 0 &&
      make("ul", { class: "threads" }, ...trial.threads.map((thread) => make("li", {}, thread))),
  ];
}

// What a message came to, or else what it asks.
const saidBy = (trial, i) => trial.texts[trial.messages.answer[i]] || trial.texts[trial.messages.label[i]];

function serverDetails(trial, server, time, show) {
  const now = serverAt(trial, server, time);
  const { calls, handlers } = underWay(trial, server, time);
  const m = trial.messages;
  const k = trial.marks;
  const election = trial.elections.findLast((e) => e.server === server && e.time <= time);
  const listed = (messages, since) =>
    make(
      "ul",
      { class: "plain" },
      ...messages
        .slice(0, 20)
        .map((i) =>
          make(
            "li",
            {},
            make(
              "button",
              { onclick: () => show({ message: i }) },
              `${titleOf(trial, i)}, for ${((time - since[i]) / 1e6).toFixed(3)} s`,
            ),
          ),
        ),
    );
  return [
    make("h2", {}, `server ${server}`),
    make("p", {}, `at ${seconds(time)}`),
    table([
      ["role", now.role],
      ["term", now.term ? `${now.term}` : "unknown"],
      ["told of", now.told ? `term ${now.told}` : ""],
      ["network", now.down ? "" : now.cut ? "disconnected" : "connected"],
      ["applied", now.applied === undefined ? "nothing" : trial.texts[k.text[now.applied]]],
      [
        "last save",
        now.saved === undefined ? "none" : `${trial.texts[k.text[now.saved]]}, ${seconds(k.time[now.saved])}`,
      ],
      [
        "last candidacy",
        election ? `term ${election.term} at ${seconds(election.time)}: ${answers(election)}` : "none",
      ],
    ]),
    calls.length > 0 && make("h3", {}, `its Calls under way: ${calls.length}`),
    calls.length > 0 && listed(calls, m.sent),
    handlers.length > 0 && make("h3", {}, `handlers that run in it: ${handlers.length}`),
    handlers.length > 0 && listed(handlers, m.began),
  ];
}

function storyDetails(trial, i) {
  const [, time, text] = trial.story[i];
  return [make("h2", {}, "the test"), make("p", {}, `at ${seconds(time)}`), make("pre", {}, text)];
}

// --- the tip ---

function tipFor(trial, what, time) {
  const m = trial.messages;
  if (what.message !== undefined) {
    const i = what.message;
    const answer = trial.texts[m.answer[i]];
    return [titleOf(trial, i), trial.texts[m.label[i]], answer ? `→ ${answer}` : "", fateOf(trial, i)];
  }
  if (what.mark !== undefined)
    return [
      `${WORDS[trial.marks.kind[what.mark]] ?? ""}${trial.texts[trial.marks.text[what.mark]]}`,
      seconds(trial.marks.time[what.mark], 4),
    ];
  if (what.story !== undefined) return [trial.story[what.story][2], seconds(trial.story[what.story][1])];
  if (what.alarm !== undefined) return [`${SIGNS[trial.alarms[what.alarm].kind]} ${trial.alarms[what.alarm].text}`];
  const now = serverAt(trial, what.server, time);
  const election =
    now.role === "candidate" &&
    trial.elections.findLast((e) => e.server === what.server && e.term === now.term && e.time <= time);
  return [
    `server ${what.server}: ${now.role}${now.term ? `, term ${now.term}` : ""}${now.cut ? ", disconnected" : ""}`,
    now.told ? `told of term ${now.told}` : "",
    election ? answers(election) : "",
  ];
}

// --- keys and signs ---

const HELP = [
  ["← →, drag", "move; with shift, further"],
  ["+ −, wheel", "zoom"],
  ["0", "all of the trial"],
  ["f", "the failure"],
  ["b", "the next broken rule, race or other alarm"],
  ["↑ ↓", "choose a server"],
  ["n p", "its next, previous message"],
  ["e", "equal steps, or true time"],
  ["h", "heartbeats"],
  ["/", "search; Enter for the next"],
  ["Esc", "nothing marked"],
];
const LEGEND = [
  ["band leader", "leader: a high band"],
  ["band candidate", "candidate: striped"],
  ["band follower", "follower: a thin line"],
  ["band unknown", "unknown: dots. Nothing has shown its role since it was started, or told of a newer term"],
  ["band cut", "disconnected: hatched"],
  ["sign vote", "RequestVote: broken line; a full dot where it returns: granted, an empty one: refused"],
  ["sign entries", "AppendEntries with entries"],
  ["sign heartbeat", "heartbeat: folded away at first"],
  ["sign snapshot", "InstallSnapshot: wide"],
  ["sign other", "another RPC"],
];
const NOTES = [
  "✕  lost there",
  "•  applied   ▾  Start accepted   ▪  printed, or a snapshot",
  "thin line under a server: a Call of its that has not returned yet",
  "line above a server: a handler of its that has not returned yet",
  "✖ failure   ◆ rule of the paper   ▲ data race   ≠ applied differently",
];

function fillHelp() {
  byId("keys").append(
    make("div", {}, make("h2", {}, "Keys"), table(HELP)),
    make(
      "div",
      {},
      make("h2", {}, "Signs"),
      make(
        "ul",
        { class: "plain" },
        ...LEGEND.map(([sign, words]) => make("li", {}, make("span", { class: sign }), words)),
        ...NOTES.map((note) => make("li", {}, note)),
      ),
    ),
  );
}

// --- as text ---

const CHUNK = 250; // lines that are laid out together: those out of sight cost nothing

function fillText(trial) {
  const lines = asText(trial).map(
    ({ time, server, text }) =>
      `${(time / 1e6).toFixed(6).padStart(11)}  ${(server === NEVER ? "" : `server ${server}`).padEnd(10)}${text}`,
  );
  const chunks = [];
  for (let k = 0; k < lines.length; k += CHUNK) chunks.push(make("pre", {}, lines.slice(k, k + CHUNK).join("\n")));
  byId("lines").replaceChildren(...chunks);
}
