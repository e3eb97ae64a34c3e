// What a person does: moving, zooming, filters, marking, searching. Draws at most once for each frame of the screen.

class Picture {
  constructor(trial) {
    this.trial = trial;
    this.chosen = {}; // message, mark, story, alarm, server, time, and the cursor's time; hover: a message
    this.filter = { kinds: new Set(KINDS.filter((kind) => kind !== "heartbeat")), servers: new Set(), term: 0 };
    this.view = { left: 0, scale: 1, axis: trueTime(trial) };
    this.canvas = byId("picture");
    this.painter = new Painter(this.canvas, trial);
    this.theme = readTheme();
    this.applyFilter();
    this.resize();
    this.toStart();
    window.addEventListener("resize", () => this.resize());
    for (const query of ["(prefers-color-scheme: dark)", "(prefers-contrast: more)"]) {
      matchMedia(query).addEventListener("change", () => this.rethink());
    }
  }

  // --- drawing ---

  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.drawNow();
    });
  }

  drawNow() {
    this.painter.draw(this.view, this.theme, this.chosen);
    drawWindow(
      byId("overview"),
      this.small,
      this.view.axis,
      this.view,
      this.theme,
      this.width,
      this.room / this.view.scale,
    );
  }

  // The colours have changed.
  rethink() {
    this.theme = readTheme();
    this.resize();
  }

  resize() {
    const width = Math.max(240, byId("drawing").clientWidth);
    const before = this.room;
    const layout = layOut(this.trial, width, window.innerHeight - byId("drawing").offsetTop);
    this.width = width;
    this.room = width - layout.gutter; // px of the axis that are seen
    if (before) this.view.scale *= this.room / before;
    this.painter.resize(layout);
    this.remakeOverview();
    this.redraw();
  }

  remakeOverview() {
    this.small = drawOverview(byId("overview"), this.trial, this.view.axis, this.theme, this.width);
  }

  // --- moving ---

  // Show the axis from one place to another.
  show(from, to) {
    this.view.scale = this.room / Math.max(to - from, 1e-6);
    this.view.left = from;
    this.limit();
    this.redraw();
  }

  showTimes(from, to) {
    this.show(this.view.axis.of(from), this.view.axis.of(to));
  }

  limit() {
    const { axis } = this.view;
    const most = axis.step ? 200 : 20; // px for a step, for a us
    this.view.scale = Math.min(most, Math.max(this.room / (axis.last - axis.first), this.view.scale));
    const shown = this.room / this.view.scale;
    const room = shown * 0.25; // beyond the end, for what is written there
    this.view.left = Math.max(
      axis.first,
      Math.min(this.view.left, axis.last - shown + (shown < axis.last - axis.first ? room : 0)),
    );
  }

  pan(pixels) {
    this.view.left += pixels / this.view.scale;
    this.limit();
    this.redraw();
  }

  // Zoom, and let the place at x px stay where it is.
  zoom(factor, x = this.painter.layout.gutter + this.room / 2) {
    const offset = x - this.painter.layout.gutter;
    const place = this.view.left + offset / this.view.scale;
    this.view.scale *= factor;
    this.limit();
    this.view.left = place - offset / this.view.scale;
    this.limit();
    this.redraw();
  }

  fitAll() {
    this.show(this.view.axis.first, this.view.axis.last);
  }

  // The failure at the right, with the last two elections before it; all of the trial if nothing failed.
  toStart() {
    const { trial } = this;
    const end = trial.failed ?? trial.alarms[0]?.time;
    if (end === undefined || end === null) return this.fitAll();
    const elections = trial.elections.filter((e) => e.time < end);
    const terms = [...new Set(elections.map((e) => e.term))].slice(-2);
    const first = elections.find((e) => terms.includes(e.term))?.time ?? Math.max(trial.begin, end - 2e6);
    const begin = Math.min(first, end - 1e5);
    const alarms = trial.alarms.map((alarm) => alarm.time).filter((time) => time > begin && time <= trial.end);
    const last = Math.max(end, ...alarms);
    const margin = (last - begin) * 0.06;
    this.showTimes(begin - margin, last + margin * 3);
  }

  // An alarm and the events that it names, near enough to tell them apart.
  toAlarm(i) {
    const alarm = this.trial.alarms[i];
    const times = [alarm.time, ...alarm.shows.map((place) => place.time)];
    const [first, last] = [Math.min(...times), Math.max(...times)];
    const margin = Math.max((last - first) * 0.3, 5000);
    this.choose({ alarm: i });
    this.showTimes(first - margin, last + margin * 1.5);
  }

  // Bring a time into view, if it is not.
  reveal(time) {
    const place = this.view.axis.of(time);
    const shown = this.room / this.view.scale;
    if (place < this.view.left + shown * 0.05 || place > this.view.left + shown * 0.95) {
      this.view.left = place - shown / 2;
      this.limit();
    }
    this.redraw();
  }

  setSteps(on) {
    const middle = this.view.axis.back(this.view.left + this.room / this.view.scale / 2);
    const [from, to] = [this.view.left, this.view.left + this.room / this.view.scale].map((place) =>
      this.view.axis.back(place),
    );
    this.view.axis = on ? { ...equalSteps(this.trial), step: true } : trueTime(this.trial);
    placeMessages(this.trial, this.view.axis);
    this.remakeOverview();
    byId("steps").setAttribute("aria-pressed", String(on));
    if (on) {
      const place = this.view.axis.of(this.chosen.time ?? Math.min(this.trial.failed ?? middle, to));
      const shown = this.room / 14;
      const anchored =
        place <= this.view.axis.of(to) && place >= this.view.axis.of(from) ? place : this.view.axis.of(middle);
      return this.show(anchored - shown * 0.8, anchored + shown * 0.2);
    }
    return this.showTimes(from, to);
  }

  // --- filters ---

  applyFilter() {
    const m = this.trial.messages;
    const { kinds, servers, term } = this.filter;
    for (let i = 0; i < m.count; i++) {
      const ofServers = !servers.size || servers.has(m.server[i]) || servers.has(m.to[i]);
      m.shown[i] = kinds.has(KINDS[m.kindOf[i]]) && ofServers && (!term || m.term[i] === term);
    }
    if (this.view.axis.step) this.setSteps(true);
    placeMessages(this.trial, this.view.axis);
    this.redraw();
  }

  toggle(set, value) {
    if (!set.delete(value)) set.add(value);
    this.applyFilter();
    this.showFilter();
  }

  showFilter() {
    for (const button of document.querySelectorAll("[data-kind]"))
      button.setAttribute("aria-pressed", String(this.filter.kinds.has(button.dataset.kind)));
    for (const button of document.querySelectorAll("[data-server]"))
      button.setAttribute("aria-pressed", String(this.filter.servers.has(Number(button.dataset.server))));
  }

  // --- marking ---

  // Mark what `find` found, or nothing, and show what is known of it.
  choose(what) {
    const { trial } = this;
    const server = what?.server ?? this.chosen.server;
    this.chosen = { ...what, server, cursor: this.chosen.cursor };
    const panel = byId("panel");
    if (!what) {
      panel.replaceChildren(make("p", { class: "quiet" }, "Nothing is marked. Click an arrow, a mark or a lane."));
    } else if (what.message !== undefined) {
      const m = trial.messages;
      this.chosen.time = m.sent[what.message];
      if (server === undefined || (server !== m.server[what.message] && server !== m.to[what.message]))
        this.chosen.server = m.server[what.message];
      panel.replaceChildren(...messageDetails(trial, what.message, (of, by) => this.step(of, by)));
      this.reveal(this.chosen.time);
    } else if (what.mark !== undefined) {
      this.chosen.time = trial.marks.time[what.mark];
      this.chosen.server = trial.marks.server[what.mark];
      panel.replaceChildren(...markDetails(trial, what.mark));
      this.reveal(this.chosen.time);
    } else if (what.story !== undefined) {
      this.chosen.time = trial.story[what.story][1];
      panel.replaceChildren(...storyDetails(trial, what.story));
      this.reveal(this.chosen.time);
    } else if (what.alarm !== undefined) {
      this.chosen.time = trial.alarms[what.alarm].time;
      panel.replaceChildren(...alarmDetails(trial, what.alarm, (found) => this.choose(found)).filter(Boolean));
      this.reveal(this.chosen.time);
    } else {
      panel.replaceChildren(
        ...serverDetails(trial, what.server, what.time, (found) => this.choose(found)).filter(Boolean),
      );
      this.reveal(what.time);
    }
    this.redraw();
  }

  // The next (1) or previous (-1) message that a server sends or is sent.
  step(server, by) {
    const m = this.trial.messages;
    const now = this.chosen.message;
    const from = this.chosen.time ?? this.view.axis.back(this.view.left);
    let i = now !== undefined ? now + by : by > 0 ? atOrBefore(m.sent, from) + 1 : atOrBefore(m.sent, from);
    while (i >= 0 && i < m.count && !(m.shown[i] && (m.server[i] === server || m.to[i] === server))) i += by;
    if (i >= 0 && i < m.count) this.choose({ message: i, server });
  }

  nextAlarm() {
    const { alarms } = this.trial;
    if (!alarms.length) return;
    const rules = [...alarms.keys()].filter((i) => alarms[i].kind !== "failure");
    const order = rules.length ? rules : [...alarms.keys()];
    this.lastAlarm = order[(order.indexOf(this.lastAlarm) + 1) % order.length];
    this.toAlarm(this.lastAlarm);
  }

  toFailure() {
    this.toStart();
    this.choose(firstToSee(this.trial));
  }

  chooseServer(by) {
    const n = this.trial.servers;
    const server = this.chosen.server === undefined ? (by > 0 ? 0 : n - 1) : (this.chosen.server + by + n) % n;
    this.choose({
      server,
      time:
        this.chosen.time ??
        this.trial.failed ??
        this.view.axis.back(this.view.left + this.room / this.view.scale / 2),
    });
  }

  // --- searching ---

  search(query) {
    this.lines ??= asText(this.trial);
    this.matches = query.trim() ? this.lines.filter(matcher(this.trial, query)) : [];
    this.match = -1;
    byId("found").textContent = query.trim() ? `${this.matches.length} found` : "";
  }

  nextMatch(by) {
    if (!this.matches?.length) return;
    this.match = (this.match + by + this.matches.length) % this.matches.length;
    byId("found").textContent = `${this.match + 1} of ${this.matches.length}`;
    const { what } = this.matches[this.match];
    if (what.message !== undefined && !this.trial.messages.shown[what.message]) this.unfold(what.message);
    this.choose(what);
  }

  // Show what the filters hide.
  unfold(i) {
    this.filter.kinds.add(KINDS[this.trial.messages.kindOf[i]]);
    this.filter.servers.clear();
    this.filter.term = 0;
    byId("term").value = "0";
    this.applyFilter();
    this.showFilter();
  }
}

// The failure, or else what is wrong first; null if nothing is.
function firstToSee({ alarms }) {
  const failure = alarms.findIndex((alarm) => alarm.kind === "failure");
  return alarms.length ? { alarm: Math.max(failure, 0) } : null;
}

// --- the page's controls ---

function connectTools(picture) {
  const { trial } = picture;
  const click = (id, act) => byId(id).addEventListener("click", act);
  click("fit", () => picture.fitAll());
  click("failure", () => picture.toFailure());
  click("in", () => picture.zoom(1.6));
  click("out", () => picture.zoom(1 / 1.6));
  click("steps", () => picture.setSteps(!picture.view.axis.step));
  byId("failure").hidden = !trial.alarms.length;
  const names = { vote: "votes", entries: "entries", heartbeat: "heartbeats", snapshot: "snapshots", other: "other" };
  for (const kind of KINDS) {
    const count = trial.messages.kind.filter((k) => k === kind).length;
    if (!count) continue;
    byId("kinds").append(
      make(
        "button",
        { "data-kind": kind, onclick: () => picture.toggle(picture.filter.kinds, kind), title: `${count} of them` },
        make("span", { class: `sign ${kind}` }),
        names[kind],
      ),
    );
  }
  for (let server = 0; server < trial.servers; server++) {
    byId("servers").append(
      make(
        "button",
        {
          "data-server": server,
          onclick: () => picture.toggle(picture.filter.servers, server),
          title: `only messages of server ${server}`,
          "aria-label": `only messages of server ${server}`,
        },
        `${server}`,
      ),
    );
  }
  byId("term").append(
    make("option", { value: "0" }, "all"),
    ...trial.terms.map((term) => make("option", { value: `${term}` }, `${term}`)),
  );
  byId("term").addEventListener("change", (event) => {
    picture.filter.term = Number(event.target.value);
    picture.applyFilter();
  });
  picture.showFilter();
  click("help", toggleHelp);
  byId("text").addEventListener("toggle", () => byId("lines").childElementCount || fillText(trial));
}

function toggleHelp() {
  const keys = byId("keys");
  keys.hidden = !keys.hidden;
  byId("help").setAttribute("aria-expanded", String(!keys.hidden));
}

function connectSearch(picture) {
  const box = byId("search");
  box.addEventListener("input", () => picture.search(box.value));
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter") picture.nextMatch(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") picture.canvas.focus();
  });
}

function connectKeys(picture) {
  const acts = {
    ArrowLeft: (event) => picture.pan(-picture.room * (event.shiftKey ? 0.8 : 0.15)),
    ArrowRight: (event) => picture.pan(picture.room * (event.shiftKey ? 0.8 : 0.15)),
    ArrowUp: () => picture.chooseServer(-1),
    ArrowDown: () => picture.chooseServer(1),
    "+": () => picture.zoom(1.6),
    "=": () => picture.zoom(1.6),
    "-": () => picture.zoom(1 / 1.6),
    0: () => picture.fitAll(),
    f: () => picture.toFailure(),
    b: () => picture.nextAlarm(),
    e: () => picture.setSteps(!picture.view.axis.step),
    n: () => picture.step(picture.chosen.server ?? 0, 1),
    p: () => picture.step(picture.chosen.server ?? 0, -1),
    h: () => picture.toggle(picture.filter.kinds, "heartbeat"),
    "/": () => byId("search").focus(),
    "?": toggleHelp,
    Escape: () => picture.choose(null),
  };
  document.addEventListener("keydown", (event) => {
    const inField = event.target.matches("input, select, textarea");
    const moves = event.key.startsWith("Arrow");
    if (inField || event.ctrlKey || event.metaKey || event.altKey || !(event.key in acts)) return;
    if (moves && event.target !== picture.canvas && event.target !== document.body) return;
    event.preventDefault();
    acts[event.key](event);
  });
}

function connectPointer(picture) {
  const { canvas } = picture;
  const tip = byId("tip");
  const pointers = new Map();
  let moved = 0;
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, at(event));
    canvas.setPointerCapture(event.pointerId);
    moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    const before = pointers.get(event.pointerId);
    if (!before) return hover(picture, tip, x, y);
    moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
    if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      picture.zoom(
        Math.max(0.5, Math.min(2, Math.abs(x - other[0]) / Math.max(8, Math.abs(before[0] - other[0])))),
        (x + other[0]) / 2,
      );
    } else if (moved > 3) {
      tip.hidden = true;
      picture.pan(before[0] - x);
    }
    pointers.set(event.pointerId, [x, y]);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (pointers.delete(event.pointerId) && moved <= 3) picture.choose(picture.painter.find(...at(event)));
  });
  canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => {
    tip.hidden = true;
    picture.chosen.hover = picture.chosen.cursor = undefined;
    picture.redraw();
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) return picture.pan(sideways);
      return picture.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), at(event)[0]);
    },
    { passive: false },
  );
  connectOverview(picture);
}

// What is at the pointer is named beside it, and its pair is marked.
function hover(picture, tip, x, y) {
  const { painter, trial, chosen } = picture;
  const time = picture.view.axis.back(picture.view.left + (x - painter.layout.gutter) / picture.view.scale);
  const what = painter.find(x, y);
  chosen.cursor = x > painter.layout.gutter ? time : undefined;
  chosen.hover = what?.message;
  tip.hidden = !what;
  if (what) {
    const [first, ...rest] = tipFor(trial, what, time);
    tip.replaceChildren(make("b", {}, first), ...rest.filter(Boolean).map((text) => make("div", {}, text)));
    const right = x > picture.width * 0.6;
    tip.style.left = right ? "" : `${x + 14}px`;
    tip.style.right = right ? `${picture.width - x + 14}px` : "";
    tip.style.top = `${y + 14}px`;
  }
  picture.redraw();
}

function connectOverview(picture) {
  const overview = byId("overview");
  const go = (event) => {
    const { axis, scale } = picture.view;
    const place = axis.first + (event.offsetX / picture.width) * (axis.last - axis.first);
    picture.view.left = place - picture.room / scale / 2;
    picture.limit();
    picture.redraw();
  };
  overview.addEventListener("pointerdown", (event) => {
    overview.setPointerCapture(event.pointerId);
    go(event);
  });
  overview.addEventListener("pointermove", (event) => event.buttons && go(event));
}

async function start() {
  const trial = prepare(JSON.parse(await unpacked("data")));
  fillHelp();
  const picture = new Picture(trial);
  showHead(trial, (alarm) => {
    picture.toAlarm(alarm);
    picture.canvas.focus({ preventScroll: true });
  });
  connectTools(picture);
  connectSearch(picture);
  connectKeys(picture);
  connectPointer(picture);
  picture.choose(firstToSee(trial));
  picture.resize(); // what stands above it has its height now
  picture.toStart();
  picture.drawNow();
  picture.drawn = performance.now(); // ms since the page was asked for
  return picture;
}

const ready = start(); // of the picture, once the page is drawn
