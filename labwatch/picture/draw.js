// Draws the trial on a canvas. `view` says which part, `chosen` what is marked; nothing here changes either.

const ROW = { flags: 22, axis: 20, story: 15, storyRows: 3, network: 12, gap: 8 };
const BAND = { unknown: 1, follower: 3, candidate: 7, leader: 9 }; // half of its height, by role
const DASHES = { vote: [6, 3], entries: [], heartbeat: [], snapshot: [], other: [8, 3, 2, 3] };
const WIDTHS = { vote: 1.4, entries: 1.6, heartbeat: 0.8, snapshot: 3, other: 1.2 };
const FONT = "system-ui, sans-serif";
const MOST_HEADS = 900; // messages in view with which arrows still have heads
const MOST_DASHES = 400; // with which lines are still broken and dotted: that takes most of the time
const MOST_LABELS = 80; // with which they still have labels
const SLANT = 7; // px: what is lost turns aside, so that it is not taken for what passes
const LONG_WAIT = 20000; // us, from which on a Call or a handler has a line of its own

const APART = { applied: 8, accepted: 10, saved: 3, snapshot: 9, installed: 9 }; // px at least, between two marks
const PLACES = ["sent", "arrives", "replies", "returns"];

// The colours of the page, and the patterns that are made of them.
function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const names = [
    "paper",
    "lane",
    "line",
    "ink",
    "muted",
    "faint",
    "follower",
    "candidate",
    "leader",
    "on-leader",
    "on-candidate",
    "vote",
    "entries",
    "heartbeat",
    "snapshot",
    "other",
    "failure",
    "broken",
    "race",
    "on-alarm",
    "chosen",
    "shade",
  ];
  const theme = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  theme.hatch = stripes(theme.faint, null, 7, 1);
  theme.stripes = stripes(theme["on-candidate"], theme.candidate, 8, 1.2);
  return theme;
}

const alarmColour = (theme, kind) =>
  ({ failure: theme.failure, paper: theme.broken, race: theme.race, applied: theme.failure })[kind];

function stripes(colour, ground, size, width) {
  const tile = new OffscreenCanvas(size * 2, size * 2);
  const c = tile.getContext("2d");
  c.scale(2, 2);
  if (ground) {
    c.fillStyle = ground;
    c.fillRect(0, 0, size, size);
  }
  c.strokeStyle = colour;
  c.globalAlpha = ground ? 0.25 : 1;
  c.lineWidth = width;
  c.beginPath();
  for (const shift of [-size, 0, size]) {
    c.moveTo(shift - 1, size + 1);
    c.lineTo(shift + size + 1, -1);
  }
  c.stroke();
  const pattern = c.createPattern(tile, "repeat");
  pattern.setTransform(new DOMMatrix().scale(0.5));
  return pattern;
}

// Where each lane is, for a canvas of that width, in a window that has `room` px below the canvas's top.
function layOut(trial, width, room) {
  const gutter = width < 600 ? 46 : 104;
  const story = ROW.flags + ROW.axis;
  const network = story + ROW.story * ROW.storyRows + ROW.gap;
  const top = network + ROW.network + ROW.gap;
  const lane = Math.max(52, Math.min(110, (room - top - 100) / Math.max(1, trial.servers)));
  return { width, gutter, story, network, top, lane, height: top + lane * trial.servers + ROW.gap };
}

// Puts the messages on the axis, once for each axis.
function placeMessages(trial, axis) {
  for (const name of PLACES) {
    trial.messages[`${name}At`] = Float64Array.from(trial.messages[name], (time) =>
      time === NEVER ? NEVER : axis.of(time),
    );
  }
}

class Painter {
  constructor(canvas, trial) {
    this.canvas = canvas;
    this.trial = trial;
    this.c = canvas.getContext("2d", { alpha: false });
    this.widths = new Map();
    this.inView = new Int32Array(trial.messages.count);
  }

  resize(layout) {
    this.layout = layout;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(layout.width * ratio);
    this.canvas.height = Math.round(layout.height * ratio);
    this.canvas.style.height = `${layout.height}px`;
    this.c.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  laneY(server) {
    return this.layout.top + (server + 0.5) * this.layout.lane;
  }

  x(time) {
    return this.layout.gutter + (this.view.axis.of(time) - this.view.left) * this.view.scale;
  }

  px(place) {
    return this.layout.gutter + (place - this.view.left) * this.view.scale;
  }

  textWidth(text) {
    const key = this.c.font + text;
    let width = this.widths.get(key);
    if (width === undefined) {
      if (this.widths.size > 5000) this.widths.clear();
      width = this.c.measureText(text).width;
      this.widths.set(key, width);
    }
    return width;
  }

  // The text, or as much of it as there is room for.
  fitted(text, room) {
    if (this.textWidth(text) <= room) return text;
    const letters = Math.floor((text.length * room) / this.textWidth(text)) - 1;
    return letters < 3 ? "" : `${text.slice(0, letters)}…`;
  }

  draw(view, theme, chosen) {
    this.view = view;
    this.theme = theme;
    this.chosen = chosen;
    const { c, layout } = this;
    this.begin = view.axis.back(view.left);
    this.end = view.axis.back(view.left + (layout.width - layout.gutter) / view.scale);
    c.fillStyle = theme.paper;
    c.fillRect(0, 0, layout.width, layout.height);
    c.textBaseline = "middle";
    c.lineJoin = "round";
    c.save();
    c.beginPath();
    c.rect(layout.gutter, 0, layout.width - layout.gutter, layout.height);
    c.clip();
    this.taken = []; // boxes of text among the lanes
    this.words = []; // what is still to be written there
    this.drawGround();
    this.drawNetwork();
    for (let server = 0; server < this.trial.servers; server++) this.drawLane(server);
    this.collect();
    this.drawWaits();
    this.drawMessages();
    for (let server = 0; server < this.trial.servers; server++) this.drawMarks(server);
    this.drawAlarms();
    this.drawChosen();
    this.drawLabels();
    this.drawStory();
    this.drawAxis();
    this.drawFlags();
    this.drawCursor();
    c.restore();
    this.drawGutter();
  }

  // --- lanes ---

  drawGround() {
    const { c, layout, theme, trial } = this;
    c.fillStyle = theme.lane;
    for (let server = 0; server < trial.servers; server++) {
      c.fillRect(layout.gutter, layout.top + server * layout.lane + 2, layout.width, layout.lane - 4);
    }
    const over = this.x(trial.failed ?? trial.end);
    c.fillStyle = theme.shade;
    if (over < layout.width) c.fillRect(over, layout.story, layout.width - over, layout.height);
  }

  drawNetwork() {
    const { c, layout, theme } = this;
    c.font = `10px ${FONT}`;
    for (const [begin, end, words, reliable] of this.trial.modes) {
      if (end < this.begin || begin > this.end) continue;
      const x = Math.max(this.x(begin), layout.gutter);
      const w = Math.min(this.x(end), layout.width) - x;
      c.fillStyle = reliable ? theme.lane : theme.hatch;
      c.fillRect(x, layout.network, w, ROW.network);
      c.fillStyle = theme.muted;
      const text = this.fitted(words, w - 8);
      if (!reliable && text) {
        c.fillStyle = theme.paper;
        c.fillRect(x + 2, layout.network, this.textWidth(text) + 6, ROW.network);
        c.fillStyle = theme.ink;
      }
      c.fillText(text, x + 5, layout.network + ROW.network / 2 + 0.5);
    }
  }

  drawLane(server) {
    const { c, theme, layout } = this;
    const lane = this.trial.lanes[server];
    const y = this.laneY(server);
    const top = y - layout.lane / 2 + 2;
    const visible = ([, begin, end]) => end >= this.begin && begin <= this.end;
    c.font = `10px ${FONT}`;
    for (const [, begin, end] of lane.cut.filter(visible)) {
      const x = this.x(begin);
      const right = this.x(end);
      c.fillStyle = theme.hatch;
      c.fillRect(x, top, right - x, layout.lane - 4);
      this.addLaneWord("disconnected", x, right, top + 7);
    }
    for (const stretch of lane.stretches) if (visible(stretch)) this.drawStretch(stretch, y);
    for (const [, begin, end] of lane.down.filter(visible)) this.drawGap(begin, end, y, top);
  }

  // A word at the top of a lane, from x on, if there is room for it up to `right`. Prints come first.
  addLaneWord(word, x, right, y) {
    this.c.font = `10px ${FONT}`;
    const left = Math.max(x, this.layout.gutter) + 4;
    if (Math.min(right, this.layout.width) - left >= this.textWidth(word) + 6) this.words.push([word, left, y]);
  }

  drawGap(begin, end, y, top) {
    const { c, theme, layout } = this;
    const x = this.x(begin);
    const right = this.x(end);
    c.fillStyle = theme.paper;
    c.fillRect(x, top - 2, right - x, layout.lane);
    c.strokeStyle = theme.muted;
    c.lineWidth = 1;
    c.setLineDash([1, 5]);
    line(c, x, y, right, y);
    c.setLineDash([]);
    c.lineWidth = 2;
    c.strokeStyle = theme.ink;
    cross(c, x, y, 4);
    const brief = right - x < this.textWidth("crashed") + 12;
    this.addLaneWord(brief ? "crashed, started again" : "crashed", x + 2, brief ? layout.width : right, top + 7);
  }

  drawStretch([server, begin, end, role, term, told], y) {
    const { c, theme, layout } = this;
    const from = this.x(begin);
    const x = Math.max(from, layout.gutter - 5);
    const right = Math.min(this.x(end), layout.width + 5);
    const half = BAND[role];
    if (role === "unknown") {
      c.strokeStyle = theme.muted;
      c.lineWidth = 1.5;
      c.setLineDash([2, 4]);
      line(c, x, y, right, y);
      c.setLineDash([]);
    } else {
      c.fillStyle = role === "candidate" ? theme.stripes : theme[role];
      c.fillRect(x, y - half, Math.max(right - x, 1), half * 2);
      if (role === "candidate") {
        c.strokeStyle = theme["on-candidate"];
        c.lineWidth = 0.8;
        c.strokeRect(x + 0.5, y - half + 0.5, Math.max(right - x - 1, 0.5), half * 2 - 1);
      }
    }
    if (!term) return;
    const inside = role === "leader" || role === "candidate";
    const words = told ? [`told of term ${told}`] : [`${role} · term ${term}`, `term ${term}`, `${term}`];
    const election = this.trial.elections.find((e) => e.server === server && e.term === term);
    if (election && role === "candidate") words.unshift(`${words[0]} · ${answers(election)}`);
    if (election?.granted.length && role === "leader")
      words.unshift(`${words[0]} · elected by ${election.granted.join(", ")}`);
    c.font = `${inside ? "600 " : ""}11px ${FONT}`;
    const left = Math.max(from, layout.gutter) + 5;
    const word = (inside ? words : words.slice(-2)).find((w) => this.textWidth(w) <= right - left - 3);
    if (!word) return;
    if (role === "candidate") {
      c.fillStyle = theme.candidate;
      c.fillRect(left - 2, y - half + 1, this.textWidth(word) + 4, half * 2 - 2);
    }
    c.fillStyle = inside ? theme[`on-${role}`] : theme.muted;
    c.fillText(word, left, inside ? y + 0.5 : y - 10);
    this.taken.push([left, y - 15, left + this.textWidth(word), y + 9]);
  }

  // --- messages ---

  // Which messages are in view.
  collect() {
    this.seen = 0;
    eachMessage(this.trial.messages, this.begin, this.end, (i) => {
      this.inView[this.seen++] = i;
    });
  }

  // The ends of a message: of the request [x, y, x, y], and of the reply, or null.
  ends(i) {
    const m = this.trial.messages;
    const down = m.to[i] >= m.server[i] ? 1 : -1;
    const y0 = this.laneY(m.server[i]) + 9 * down;
    const self = m.to[i] === m.server[i];
    const y1 = self ? y0 + 12 : this.laneY(m.to[i]) - 9 * down;
    const reached = m.reached[i] !== NEVER;
    const far = reached ? y1 : y0 + (y1 - y0) * 0.4;
    const x0 = this.px(m.sentAt[i]);
    const x1 = this.px(m.arrivesAt[i]);
    const request = [x0, y0, reached ? x1 : Math.max(x1, x0 + SLANT), far];
    if (m.repliesAt[i] === NEVER) return [request, null];
    if (m.isLost[i]) return [request, [x1, y1, x1 + SLANT, y1 + (y0 - y1) * 0.4]];
    return [request, [this.px(m.repliesAt[i]), y1, this.px(m.returnsAt[i]), y0]];
  }

  drawMessages() {
    const { c, theme } = this;
    const kinds = this.shapes();
    const crowd = this.seen > 4000 ? 0.35 : this.seen > 1000 ? 0.55 : 1;
    const dashed = this.seen <= MOST_DASHES;
    const quiet = this.chosen.message === undefined ? 1 : 0.5;
    c.globalAlpha = crowd * quiet;
    KINDS.forEach((kind, index) => {
      const { requests, replies, heads, open, losses } = kinds[index];
      c.strokeStyle = c.fillStyle = theme[kind];
      strokeEach(c, requests, WIDTHS[kind], dashed ? DASHES[kind] : []);
      strokeEach(c, replies, dashed ? 1.2 : 0.6, dashed ? [1.5, 2.5] : []);
      c.fill(heads);
      c.fillStyle = theme.paper;
      c.fill(open);
      c.stroke(open);
      c.lineWidth = 1.6;
      c.stroke(losses);
    });
    c.globalAlpha = 1;
  }

  // What is drawn of the messages in view, by kind: lines, and signs at their ends while there are not too many.
  shapes() {
    const m = this.trial.messages;
    const signs = this.seen <= MOST_HEADS;
    const made = () => ({ requests: [], replies: [], heads: new Path2D(), open: new Path2D(), losses: new Path2D() });
    const kinds = KINDS.map(made);
    const last = new Int32Array(this.trial.servers * this.trial.servers * KINDS.length).fill(-1e9);
    for (let k = 0; k < this.seen; k++) {
      const i = this.inView[k];
      const shape = kinds[m.kindOf[i]];
      const [request, reply] = this.ends(i);
      const pair = (m.server[i] * this.trial.servers + m.to[i]) * KINDS.length + m.kindOf[i];
      const column = Math.round(request[0]);
      if (column - last[pair] < 2 && request[2] - request[0] < 1 && !signs) continue; // the one before hides it
      last[pair] = column;
      shape.requests.push(request);
      const apart = reply && (Math.abs(reply[2] - request[0]) > 4 || m.isLost[i]);
      if (apart) shape.replies.push(reply);
      if (signs) this.addSigns(shape, i, request, reply, apart);
    }
    return kinds;
  }

  addSigns({ heads, open, losses }, i, request, reply, apart) {
    const m = this.trial.messages;
    if (m.reached[i] !== NEVER) headInto(heads, request, 6);
    if (m.isLost[i]) {
      const [, , x, y] = reply ?? request;
      crossInto(losses, x, y, 3.5);
    } else if (reply && KINDS[m.kindOf[i]] === "vote") {
      dotInto(m.isYes[i] ? heads : open, reply[2], reply[3], 3);
    } else if (apart) {
      headInto(open, reply, 5);
    }
  }

  // Calls that wait for long are thin lines under the caller's band, one row for each peer, and handlers that run for
  // long are lines above that of their server.
  drawWaits() {
    const { c, theme, trial } = this;
    const m = trial.messages;
    const calls = new Path2D();
    const handlers = new Path2D();
    const words = [];
    for (let k = 0; k < this.seen; k++) {
      const i = this.inView[k];
      if (m.returns[i] - m.sent[i] > LONG_WAIT) segment(calls, this.waitOf(i));
      if (m.began[i] === NEVER) continue;
      const ended = m.ended[i] === NEVER ? trial.end : m.ended[i];
      if (ended - m.began[i] <= LONG_WAIT) continue;
      const y = this.laneY(m.to[i]) - 13 - 2.5 * m.server[i];
      const ends = [this.x(m.began[i]), y, this.x(ended), y];
      segment(handlers, ends);
      words.push([
        ends,
        `handler of ${trial.texts[m.method[i]]} from ${m.server[i]} does not return for ${seconds(ended - m.began[i])}`,
      ]);
    }
    c.lineWidth = 1;
    c.strokeStyle = theme.line;
    c.stroke(calls);
    c.lineWidth = 2;
    c.strokeStyle = c.fillStyle = theme.race;
    c.stroke(handlers);
    c.font = `10px ${FONT}`;
    for (const [[x0, y, x1], text] of words) {
      const left = Math.max(x0, this.layout.gutter + 4);
      this.putText(this.fitted(text, Math.min(x1, this.layout.width) - left), left, y - 8);
    }
  }

  // The line of a Call that waits.
  waitOf(i) {
    const m = this.trial.messages;
    const y = this.laneY(m.server[i]) + 13 + 2.5 * m.to[i];
    return [this.px(m.sentAt[i]), y, this.px(m.returnsAt[i]), y];
  }

  // What a message says, at the beginning of its lines or a little further along.
  putLabels(i) {
    const m = this.trial.messages;
    const [request, reply] = this.ends(i);
    this.c.fillStyle = this.theme[KINDS[m.kindOf[i]]];
    for (const [place, ends] of [
      [m.label[i], request],
      [m.answer[i], reply],
    ]) {
      if (!ends) continue;
      const [x0, y0, x1, y1] = ends;
      const length = Math.abs(y1 - y0);
      const along = [9, 20, 31].filter((d) => d < length);
      along.some((d) =>
        this.putText(this.trial.texts[place], x0 + ((x1 - x0) * d) / length + 5, y0 + Math.sign(y1 - y0) * d),
      );
    }
  }

  // Text among the lanes, if its place is free; whether it was.
  putText(text, x, y) {
    const w = this.textWidth(text);
    const box = [x - 1, y - 6, x + w + 1, y + 6];
    if (!text || this.taken.some((t) => t[0] < box[2] && t[2] > box[0] && t[1] < box[3] && t[3] > box[1]))
      return false;
    this.taken.push(box);
    const colour = this.c.fillStyle;
    this.c.globalAlpha = 0.8;
    this.c.fillStyle = this.theme.lane;
    this.c.fillRect(box[0], box[1], w + 2, 12);
    this.c.globalAlpha = 1;
    this.c.fillStyle = colour;
    this.c.fillText(text, x, y);
    return true;
  }

  // What messages say, where there is room for it; those that are marked come first.
  drawLabels() {
    const { chosen } = this;
    this.c.font = `10px ${FONT}`;
    this.c.fillStyle = this.theme.muted;
    this.words.forEach((word) => this.putText(...word));
    this.marked().forEach((i) => this.putLabels(i));
    if (chosen.hover !== undefined) this.putLabels(chosen.hover);
    if (this.seen > MOST_LABELS) return;
    for (let k = 0; k < this.seen; k++) this.putLabels(this.inView[k]);
  }

  // The messages that are marked: the one that was clicked, or those that an alarm names.
  marked() {
    const { message, alarm } = this.chosen;
    if (message !== undefined) return [message];
    return (this.trial.alarms[alarm]?.shows ?? [])
      .map(({ n }) => this.trial.at.get(n)?.message)
      .filter((i) => i !== undefined);
  }

  // --- what servers do ---

  drawMarks(server) {
    const { c, theme, trial, layout } = this;
    const k = trial.marks;
    const y = this.laneY(server);
    const of = trial.lanes[server].marks;
    const beads = new Path2D();
    const squares = new Path2D();
    const starts = new Path2D();
    const prints = new Path2D();
    const saves = new Path2D();
    const last = {};
    const named = [];
    let free = -Infinity; // up to where there is text already
    c.font = `10px ${FONT}`;
    const first = firstAt(of, k.time, this.begin);
    for (let j = first; j < of.length && k.time[of[j]] <= this.end; j++) {
      const i = of[j];
      const kind = k.kind[i];
      const x = this.x(k.time[i]);
      if (x - (last[kind] ?? -99) < (APART[kind] ?? 1)) continue; // it would be drawn over the one before
      last[kind] = x;
      if (kind === "applied") {
        dotInto(beads, x, y + 6.5, 2);
        if (of.length < 500 || this.view.scale * 1e6 > 3000) named.push([x, i]);
      } else if (kind === "saved") segment(saves, [x, y + 9, x, y + 12]);
      else if (kind === "accepted") triangleInto(starts, x, y - 13, 4);
      else if (kind === "snapshot" || kind === "installed") squares.rect(x - 3, y + 3.5, 6, 6);
      else {
        const top = y - layout.lane / 2 + 6;
        prints.rect(x - 2, top, 4, 6);
        const text = trial.texts[k.text[i]];
        const next = j + 1 < of.length ? this.x(k.time[of[j + 1]]) : layout.width;
        const shown = x > free ? this.fitted(text, Math.min(240, Math.max(next - x - 8, 60))) : "";
        if (shown) {
          c.fillStyle = theme.ink;
          c.fillText(shown, x + 5, top + 3);
          free = x + 8 + this.textWidth(shown);
          this.taken.push([x, top - 3, free, top + 9]);
        }
      }
    }
    c.lineWidth = 1;
    c.strokeStyle = theme.muted;
    c.stroke(saves);
    c.strokeStyle = theme.lane;
    c.fillStyle = theme.ink;
    for (const path of [beads, squares, prints]) {
      c.fill(path);
      c.stroke(path);
    }
    c.fillStyle = theme.entries;
    c.fill(starts);
    c.fillStyle = theme.muted;
    for (const [x, i] of named.slice(0, 60)) this.putText(trial.texts[k.text[i]].slice(0, 16), x + 5, y + 15);
  }

  // --- above the lanes ---

  drawStory() {
    const { c, theme, layout, trial } = this;
    const rows = Array.from({ length: ROW.storyRows }, () => []);
    const notes = [];
    trial.story.forEach(([, time, text]) => {
      if (time >= this.begin && time <= this.end && !/^(FAILED|the test ends here)/.test(text))
        notes.push([this.x(time), text]);
    });
    c.font = `11px ${FONT}`;
    c.strokeStyle = theme.line;
    c.lineWidth = 1;
    const ticks = new Path2D();
    for (const [x] of notes) segment(ticks, [x, layout.story, x, layout.network - 3]);
    c.stroke(ticks);
    for (const [x, text] of notes.sort((a, b) => weight(b[1]) - weight(a[1]))) {
      const short = this.fitted(shortly(text), 220);
      const box = [x - 1, x + this.textWidth(short) + 8];
      const row = rows.find((taken) => taken.every((t) => t[0] > box[1] || t[1] < box[0]));
      if (!row) continue;
      row.push(box);
      const y = layout.story + ROW.story * (rows.indexOf(row) + 0.5);
      c.fillStyle = theme.paper;
      c.fillRect(x, y - 6, box[1] - box[0] - 4, 12);
      c.fillStyle = theme.muted;
      c.fillRect(x - 0.75, y - 5, 1.5, 10);
      c.fillStyle = weight(text) ? theme.ink : theme.muted;
      c.fillText(short, x + 4, y);
    }
  }

  drawAxis() {
    const { c, theme, layout, view } = this;
    const y = ROW.flags;
    c.fillStyle = theme.paper;
    c.fillRect(layout.gutter, y, layout.width, ROW.axis);
    c.strokeStyle = theme.line;
    c.lineWidth = 1;
    line(c, layout.gutter, y + ROW.axis - 0.5, layout.width, y + ROW.axis - 0.5);
    c.fillStyle = theme.muted;
    c.font = `11px ${FONT}`;
    const ticks = view.axis.step
      ? stepTicks(view, layout)
      : timeTicks(this.begin, this.end, (layout.width - layout.gutter) / 90);
    for (const [time, text] of ticks) {
      const x = Math.round(this.x(time)) + 0.5;
      line(c, x, y + ROW.axis - 5, x, y + ROW.axis);
      c.fillText(text, x + 3, y + ROW.axis / 2);
    }
  }

  drawAlarms() {
    const { c, theme, layout, trial } = this;
    const dashes = { failure: [], paper: [7, 4], race: [2, 3], applied: [7, 2, 2, 2] };
    for (const alarm of trial.alarms) {
      const x = Math.round(this.x(alarm.time)) + 0.5;
      if (x < layout.gutter - 2 || x > layout.width + 2) continue;
      c.strokeStyle = alarmColour(theme, alarm.kind);
      c.lineWidth = alarm.kind === "failure" ? 2 : 1.4;
      c.setLineDash(dashes[alarm.kind]);
      line(c, x, ROW.flags - 4, x, layout.height);
      c.setLineDash([]);
      for (const place of alarm.shows) {
        c.lineWidth = 2;
        c.beginPath();
        c.arc(this.x(place.time), this.laneY(place.server), 12, 0, 7);
        c.stroke();
      }
    }
  }

  // The alarms' signs and what they say, at the top of their lines; to the left where there is no room.
  drawFlags() {
    const { c, theme, layout, trial } = this;
    c.fillStyle = theme.paper;
    c.fillRect(layout.gutter, 0, layout.width, ROW.flags);
    c.font = `600 11px ${FONT}`;
    let free = layout.gutter;
    const inView = trial.alarms
      .map((alarm) => [this.x(alarm.time), alarm])
      .filter(([x]) => x >= layout.gutter - 1 && x <= layout.width);
    inView.sort((a, b) => a[0] - b[0]);
    inView.forEach(([x, alarm], index) => {
      const next = inView[index + 1]?.[0] ?? layout.width;
      const text = `${SIGNS[alarm.kind]}  ${alarm.text}`;
      const right = next - x - 6;
      const leftward = right < 120 && x - free > 140;
      const shown =
        this.fitted(text, Math.min(420, Math.max(leftward ? x - free - 14 : right - 10, 0))) || SIGNS[alarm.kind];
      const w = this.textWidth(shown) + 10;
      const left = leftward ? x - w : Math.max(x - 1, free);
      c.fillStyle = alarmColour(theme, alarm.kind);
      c.fillRect(left, 1, w, 17);
      c.fillStyle = theme["on-alarm"];
      c.fillText(shown, left + 5, 10);
      free = left + w + 3;
    });
  }

  drawCursor() {
    const { c, theme, layout, chosen, view } = this;
    if (chosen.cursor === undefined) return;
    const x = Math.round(this.x(chosen.cursor)) + 0.5;
    if (x < layout.gutter) return;
    c.strokeStyle = theme.faint;
    c.lineWidth = 1;
    line(c, x, layout.story, x, layout.height);
    const span = view.axis.step ? 1e6 : layout.width / view.scale;
    const text = seconds(chosen.cursor, span < 20000 ? 6 : span < 2e6 ? 4 : 3);
    c.font = `11px ${FONT}`;
    const w = this.textWidth(text) + 8;
    const left = Math.min(x + 2, layout.width - w);
    c.fillStyle = theme.ink;
    c.fillRect(left, ROW.flags + 1, w, ROW.axis - 3);
    c.fillStyle = theme.paper;
    c.fillText(text, left + 4, ROW.flags + ROW.axis / 2);
  }

  drawGutter() {
    const { c, theme, layout, trial, chosen } = this;
    const narrow = layout.gutter < 60;
    c.fillStyle = theme.paper;
    c.fillRect(0, 0, layout.gutter, layout.height);
    c.fillStyle = theme.muted;
    c.font = `11px ${FONT}`;
    if (!narrow) {
      c.fillText("time", 8, ROW.flags + ROW.axis / 2);
      c.fillText("the test", 8, layout.story + ROW.story / 2);
      c.fillText("network", 8, layout.network + ROW.network / 2 + 0.5);
    }
    const time = chosen.cursor ?? chosen.time ?? trial.failed ?? trial.end;
    for (let server = 0; server < trial.servers; server++) {
      const y = this.laneY(server);
      if (server === chosen.server) {
        c.fillStyle = theme.chosen;
        c.fillRect(0, y - layout.lane / 2 + 2, 3, layout.lane - 4);
      }
      c.fillStyle = theme.ink;
      c.font = `600 12px ${FONT}`;
      c.fillText(narrow ? `S${server}` : `server ${server}`, 8, y - 7);
      c.font = `11px ${FONT}`;
      c.fillStyle = theme.muted;
      const now = serverAt(trial, server, time);
      const words = narrow
        ? `${now.role.slice(0, 1).toUpperCase()}${now.term || ""}`
        : `${now.role}${now.term ? ` · ${now.term}` : ""}`;
      c.fillText(words, 8, y + 8);
    }
    c.strokeStyle = theme.line;
    c.lineWidth = 1;
    line(c, layout.gutter - 0.5, layout.story, layout.gutter - 0.5, layout.height);
  }

  // --- what is marked ---

  drawChosen() {
    const { c, theme, chosen, trial } = this;
    this.marked().forEach((i) => this.drawPair(i, 4));
    if (chosen.hover !== undefined) this.drawPair(chosen.hover, 3);
    if (chosen.mark !== undefined) {
      c.strokeStyle = theme.chosen;
      c.lineWidth = 2.5;
      c.beginPath();
      c.arc(this.x(trial.marks.time[chosen.mark]), this.laneY(trial.marks.server[chosen.mark]), 9, 0, 7);
      c.stroke();
    }
  }

  // A message with its reply: a halo, both lines, its ends, and its time on its way.
  drawPair(i, width) {
    const { c, theme } = this;
    const m = this.trial.messages;
    const [request, reply] = this.ends(i);
    c.lineCap = "round";
    for (const [colour, w, alpha] of [
      [theme.chosen, width + 3, 0.35],
      [theme[KINDS[m.kindOf[i]]], width - 1, 1],
    ]) {
      c.strokeStyle = colour;
      c.globalAlpha = alpha;
      c.lineWidth = w;
      c.setLineDash([]);
      line(c, ...request);
      c.setLineDash(alpha === 1 ? [2, 4] : []);
      if (reply) line(c, ...reply);
    }
    c.setLineDash([]);
    c.lineCap = "butt";
    c.fillStyle = theme[KINDS[m.kindOf[i]]];
    const tips = new Path2D();
    if (m.reached[i] !== NEVER) headInto(tips, request, 10);
    if (reply && !m.isLost[i]) headInto(tips, reply, 10);
    c.fill(tips);
    if (m.isLost[i]) {
      c.strokeStyle = theme.failure;
      c.lineWidth = 2.5;
      const [, , x, y] = reply ?? request;
      cross(c, x, y, 5);
    }
    if (m.returns[i] - m.sent[i] > LONG_WAIT) {
      c.strokeStyle = theme.chosen;
      c.lineWidth = 3;
      line(c, ...this.waitOf(i));
    }
  }

  // --- what is where ---

  // What lies at a point: {message}, {mark}, {story}, {alarm}, or {server, time}; null for nothing.
  find(x, y) {
    const { layout, trial } = this;
    const time = this.view.axis.back(this.view.left + (x - layout.gutter) / this.view.scale);
    const near = (t, most) => Math.abs(this.x(t) - x) <= most;
    const closest = (list, timeOf, most) => {
      const found = list.filter((item) => near(timeOf(item), most));
      return found.sort((a, b) => Math.abs(this.x(timeOf(a)) - x) - Math.abs(this.x(timeOf(b)) - x))[0];
    };
    if (x < layout.gutter || y < layout.story) {
      const alarm = closest([...trial.alarms.keys()], (i) => trial.alarms[i].time, y < ROW.flags ? 60 : 4);
      return alarm === undefined ? null : { alarm };
    }
    if (y < layout.network) {
      const story = closest([...trial.story.keys()], (i) => trial.story[i][1], 40);
      return story === undefined ? null : { story };
    }
    if (y < layout.top) return null;
    const server = Math.min(trial.servers - 1, Math.floor((y - layout.top) / layout.lane));
    const onBand = Math.abs(y - this.laneY(server)) < 9 || y < this.laneY(server) - layout.lane / 2 + 14;
    const mark = onBand ? closest(trial.lanes[server].marks, (i) => trial.marks.time[i], 4) : undefined;
    if (mark !== undefined) return { mark, server };
    const message = this.nearest(x, y);
    if (message !== undefined) return { message, server };
    const alarm = closest([...trial.alarms.keys()], (i) => trial.alarms[i].time, 3);
    return alarm === undefined ? { server, time } : { alarm, server };
  }

  nearest(x, y) {
    let best;
    let least = 7;
    for (let k = 0; k < this.seen; k++) {
      const i = this.inView[k];
      for (const ends of this.ends(i)) {
        if (!ends) continue;
        const d = distance(x, y, ends);
        if (d < least) [best, least] = [i, d];
      }
    }
    return best;
  }
}

// --- the overview ------------------------------------------------------------------------------------------------

// All of the trial in small, drawn once for each axis and width.
function drawOverview(canvas, trial, axis, theme, width) {
  const ratio = window.devicePixelRatio || 1;
  const row = Math.max(4, Math.min(8, 30 / Math.max(1, trial.servers)));
  const height = Math.ceil(row * trial.servers + 6);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const picture = new OffscreenCanvas(canvas.width, canvas.height);
  const c = picture.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.fillStyle = theme.lane;
  c.fillRect(0, 0, width, height);
  const x = (time) => ((axis.of(time) - axis.first) / (axis.last - axis.first)) * width;
  for (const [server, begin, end, role] of trial.stretches) {
    if (role === "unknown") continue;
    const thick = role === "follower" ? 1 : row - 1;
    c.fillStyle = theme[role];
    c.fillRect(x(begin), 3 + row * server + (row - thick) / 2, Math.max(1, x(end) - x(begin)), thick);
  }
  c.fillStyle = theme.hatch;
  for (const [server, begin, end] of trial.cut) c.fillRect(x(begin), 3 + row * server, x(end) - x(begin), row);
  for (const alarm of trial.alarms) {
    c.fillStyle = alarmColour(theme, alarm.kind);
    c.fillRect(x(alarm.time) - 1, 0, 2, height);
  }
  return picture;
}

function drawWindow(canvas, picture, axis, view, theme, width, shown) {
  const c = canvas.getContext("2d");
  const ratio = window.devicePixelRatio || 1;
  c.setTransform(1, 0, 0, 1, 0, 0);
  c.clearRect(0, 0, canvas.width, canvas.height);
  c.drawImage(picture, 0, 0);
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  const scale = width / (axis.last - axis.first);
  const left = (view.left - axis.first) * scale;
  const w = Math.max(4, shown * scale);
  c.fillStyle = theme.chosen;
  c.globalAlpha = 0.14;
  c.fillRect(left, 0, w, canvas.height);
  c.globalAlpha = 1;
  c.strokeStyle = theme.chosen;
  c.lineWidth = 1.5;
  c.strokeRect(left + 0.75, 0.75, w - 1.5, canvas.height / ratio - 1.5);
}

// --- small shapes --------------------------------------------------------------------------------------------------

function line(c, x0, y0, x1, y1) {
  c.beginPath();
  c.moveTo(x0, y0);
  c.lineTo(x1, y1);
  c.stroke();
}

// Lines of one kind. One after another: all of them in one path would take many times as long.
function strokeEach(c, lines, width, dashes) {
  c.lineWidth = width;
  c.setLineDash(dashes);
  for (const [x0, y0, x1, y1] of lines) {
    if (dashes.length || Math.abs(x1 - x0) > 0.8) line(c, x0, y0, x1, y1);
    else c.fillRect(x0 - width / 2, Math.min(y0, y1), width, Math.abs(y1 - y0));
  }
  c.setLineDash([]);
}

function cross(c, x, y, r) {
  const path = new Path2D();
  crossInto(path, x, y, r);
  c.stroke(path);
}

function segment(path, [x0, y0, x1, y1]) {
  path.moveTo(x0, y0);
  path.lineTo(x1, y1);
}

function crossInto(path, x, y, r) {
  segment(path, [x - r, y - r, x + r, y + r]);
  segment(path, [x - r, y + r, x + r, y - r]);
}

function dotInto(path, x, y, r) {
  path.moveTo(x + r, y);
  path.arc(x, y, r, 0, 7);
}

function triangleInto(path, x, y, r) {
  path.moveTo(x - r, y - r);
  path.lineTo(x + r, y - r);
  path.lineTo(x, y + r);
  path.closePath();
}

// The head of an arrow, at its end.
function headInto(path, [x0, y0, x1, y1], size) {
  const length = Math.hypot(x1 - x0, y1 - y0) || 1;
  const [dx, dy] = [((x1 - x0) / length) * size, ((y1 - y0) / length) * size];
  path.moveTo(x1, y1);
  path.lineTo(x1 - dx + dy * 0.45, y1 - dy - dx * 0.45);
  path.lineTo(x1 - dx - dy * 0.45, y1 - dy + dx * 0.45);
  path.closePath();
}

function distance(x, y, [x0, y0, x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const along = Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - x0 - along * dx, y - y0 - along * dy);
}

// The first of some rows, in the order of their times, that is not before a time.
function firstAt(rows, times, time) {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[rows[middle]] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

// --- the axis, and the test's notes --------------------------------------------------------------------------------

function timeTicks(begin, end, most) {
  const least = (end - begin) / most;
  const step =
    [1, 2, 5]
      .flatMap((k) => Array.from({ length: 9 }, (_, p) => k * 10 ** p))
      .sort((a, b) => a - b)
      .find((s) => s >= least) ?? 1e9;
  const digits = Math.max(0, 6 - Math.floor(Math.log10(step)));
  const ticks = [];
  for (let t = Math.ceil(begin / step) * step; t <= end; t += step) if (t >= 0) ticks.push([t, seconds(t, digits)]);
  return ticks;
}

function stepTicks(view, layout) {
  const ticks = [];
  for (let x = 20; x < layout.width - layout.gutter - 60; x += 110) {
    const time = view.axis.back(view.left + x / view.scale);
    ticks.push([time, seconds(Math.max(0, time), 4)]);
  }
  return ticks;
}

// Which note of the test's story is more worth its place.
function weight(text) {
  return /^(start|connect|begin|\d+: log) /.test(text) ? 0 : 1;
}

function shortly(text) {
  return text.startsWith("check") ? text.replace(/( of|:) \{.*$/, "") : text;
}

// What became of a candidate's requests, in few words.
function answers(election) {
  const words = { granted: "granted by", refused: "refused by", lost: "lost to", waiting: "no answer from" };
  return (
    Object.entries(words)
      .filter(([how]) => election[how].length)
      .map(([how, word]) => `${word} ${election[how].join(", ")}`)
      .join("; ") || "asks nobody"
  );
}
