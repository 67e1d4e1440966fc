"use strict";
// Draws each play that is open from the JSON beside it. Texts get in as text nodes only, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const ROW = 20, DEADLINE = 58, TITLE = 24, GAP = 12, TOP = 24, NEAR = 14, EDGE = 22, SHOWN = 12;

// What is drawn for a kind, around 0,0. A kind with "open" is a line, the others are filled.
const GLYPHS = {
  create: { path: "M-4-6L6 0L-4 6Z", says: "create" },
  message: { path: "M0-5A5 5 0 1 1 0 5A5 5 0 1 1 0-5Z", says: "message" },
  reply: { path: "M0-5A5 5 0 1 1 0 5A5 5 0 1 1 0-5Z", says: "agent's message" },
  heartbeat: { path: "M0 5L-5 0A2.9 2.9 0 0 1 0-3.4A2.9 2.9 0 0 1 5 0Z", says: "heartbeat" },
  renewal: { path: "M0-6L6 4.5L-6 4.5Z", says: "renewal" },
  retime: { path: "M0-6L5.5 0L0 6L-5.5 0Z", says: "new timeout" },
  read: { path: "M0-3.5A3.5 3.5 0 1 1 0 3.5A3.5 3.5 0 1 1 0-3.5Z", says: "read" },
  listen: { path: "M-5-5A7 7 0 0 1-5 5M-1-6.5A10 10 0 0 1-1 6.5M3-5A12 12 0 0 1 3 5", open: true, says: "listen" },
  end: { path: "M-4.5-4.5H4.5V4.5H-4.5Z", says: "end" },
  event: { path: "M0-2.5A2.5 2.5 0 1 1 0 2.5A2.5 2.5 0 1 1 0-2.5Z", says: "event" },
  warning: { path: "M0-6.5L6.5 5.5L-6.5 5.5ZM-.8-2V2H.8V-2Z", says: "warning" },
  expiry: { path: "M-4.5-6H4.5L0 0L4.5 6H-4.5L0 0Z", says: "expiry" },
  fault: { path: "M-4-4L4 4M4-4L-4 4", open: true, says: "agent error" },
  expectation: { path: "M-4 0L-1 3.5L4.5-4", open: true, says: "expectation held" },
  refused: { path: "M-5.5 0A5.5 5.5 0 1 1 5.5 0A5.5 5.5 0 1 1-5.5 0M-3.9 3.9L3.9-3.9", open: true, says: "refused, as expected" },
  limited: { path: "M-6-5H6L0 6Z", says: "429, not expected" },
  error: { path: "M-4-4L4 4M4-4L-4 4", open: true, says: "refused or failed, not expected" },
  lost: { path: "M0-5A5 5 0 1 1 0 5A5 5 0 1 1 0-5Z", open: true, says: "no answer" },
  failed: { path: "M-5-5L5 5M5-5L-5 5", open: true, says: "expectation failed" },
};
const STEPS = [1, 10, 100, 1000, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000, 7200000, 21600000, 86400000, 604800000];
const COUNTS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
const UNITS = [["d", 86400000], ["h", 3600000], ["m", 60000], ["s", 1000], ["ms", 1]];

function duration(ms) {
  let rest = Math.round(Math.abs(ms)), text = "";
  for (const [unit, size] of UNITS) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count) text += count + unit;
  }
  return (ms < 0 ? "-" : "") + (text || "0");
}

function element(name, attributes, ...inside) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

function shape(name, attributes, ...inside) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

// What was refused as the script said is no fault.
const isBad = (mark) => mark.state !== "good" && mark.state !== "refused";
const glyphOf = (mark) => (mark.state === "good" ? mark.kind : mark.state);

function glyph(name) {
  const { path, open } = GLYPHS[name];
  return shape("path", { d: path, class: open ? "open" : "", "fill-rule": "evenodd" });
}

const classOf = (mark) => `${mark.kind} state-${mark.state}`;

function list(parts) {
  const made = element("dl");
  for (const [name, text] of parts) made.append(element("dt", null, name), element("dd", null, element("pre", null, text)));
  return made;
}

// One play: where it is drawn, and from when to when.
class Timeline {
  constructor(play) {
    this.data = JSON.parse(play.querySelector("script").textContent);
    this.box = play.querySelector(".drawing");
    this.story = play.querySelector(".story");
    this.legend = play.querySelector(".legend");
    this.isTimed = this.data.length > 0;
    this.whole = this.isTimed ? this.data.length : Math.max(1, this.data.steps);
    this.range = this.all();
    this.at = 0;
    this.pop = element("div", { class: "pop", role: "tooltip", hidden: "" });
    for (const button of play.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => this.zoom(Number(button.dataset.zoom)));
    }
    this.story.addEventListener("toggle", () => this.tell());
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("pointerdown", (event) => this.drag(event));
    new ResizeObserver(() => this.box.clientWidth !== this.width && this.draw()).observe(this.box);
    this.explain();
  }

  all() {
    return [0, this.whole];
  }

  zoom(factor) {
    const [from, to] = this.range, middle = (from + to) / 2, half = (to - from) / 2 / factor;
    this.show(factor ? [middle - half, middle + half] : this.all());
  }

  show([from, to]) {
    const [first, last] = this.all(), length = Math.min(last - first, Math.max(4, to - from));
    const start = Math.min(Math.max(first, from), last - length);
    this.range = [start, start + length];
    this.draw();
  }

  // Where a mark is on the axis: an instant, or a step where all happened at once.
  place(mark) {
    return this.isTimed ? mark.at : mark.step;
  }

  x(ms) {
    const [from, to] = this.range;
    return this.gutter + EDGE + ((ms - from) / (to - from)) * (this.width - this.gutter - 2 * EDGE);
  }

  ms(x) {
    const [from, to] = this.range;
    return from + ((x - this.gutter - EDGE) / (this.width - this.gutter - 2 * EDGE)) * (to - from);
  }

  draw() {
    this.width = this.box.clientWidth;
    if (!this.width) return;
    this.gutter = this.width < 560 ? 62 : 96;
    this.marks = [];
    const happenings = this.data.happenings.length ? 16 : 0;
    let y = TOP + happenings;
    this.texts = [];
    const lanes = this.data.lanes.map((lane) => ({ lane, y, bottom: (y += this.height(lane)) - GAP }));
    this.bottom = Math.max(y - GAP, TOP + 10);
    const svg = shape("svg", { height: this.bottom + 6, viewBox: `0 0 ${this.width} ${this.bottom + 6}`, role: "group", "aria-label": "What happened over the time" });
    const clip = `clip-${this.box.closest(".play").id}`;
    svg.append(shape("clipPath", { id: clip }, shape("rect", { x: this.gutter, y: 0, width: Math.max(1, this.width - this.gutter), height: this.bottom + 6 })));
    this.axis(svg);
    const inside = shape("g", { "clip-path": `url(#${clip})` });
    svg.append(inside);
    for (const [from, to] of this.data.downs) {
      inside.append(shape("rect", { class: "down", x: this.x(from), width: Math.max(1, this.x(to) - this.x(from)), y: TOP, height: this.bottom - TOP }));
    }
    for (const { lane, y: top, bottom } of lanes) this.lane(svg, inside, lane, top, bottom);
    this.happen(inside);
    for (const { lane, y: top } of lanes) svg.append(this.title(lane, top));
    this.marks.sort((one, other) => one.from - other.from || one.y - other.y);
    inside.append(...this.texts);
    this.marks.forEach((mark, n) => inside.append(this.mark(mark, n)));
    this.box.replaceChildren(svg, this.pop);
    this.pop.hidden = true;
    this.aim(Math.min(this.at, this.marks.length - 1), false);
  }

  height(lane) {
    return TITLE + (lane.segments.length ? DEADLINE : 0) + lane.rows.length * ROW + GAP;
  }

  axis(svg) {
    const [from, to] = this.range, most = Math.max(2, (this.width - this.gutter) / (this.width < 560 ? 64 : 90));
    const step = (this.isTimed ? STEPS : COUNTS).find((size) => (to - from) / size <= most) || STEPS.at(-1);
    for (let at = Math.max(0, Math.ceil(from / step) * step); at <= Math.min(to, this.whole); at += step) {
      const x = this.x(at);
      svg.append(shape("line", { class: "grid", x1: x, x2: x, y1: TOP - 6, y2: this.bottom }));
      const text = shape("text", { x, y: 12, "text-anchor": "middle" }, this.isTimed ? duration(at) : at ? String(at + 1) : "step 1");
      svg.append(text);
    }
  }

  lane(svg, inside, lane, top, bottom) {
    let y = top + TITLE;
    if (lane.over) {
      const x = Math.max(this.gutter, this.x(lane.over.at));
      inside.append(shape("rect", { class: "gone", x, y, width: Math.max(0, this.width - x), height: bottom - y }));
      inside.append(shape("line", { class: "over", x1: this.x(lane.over.at), x2: this.x(lane.over.at), y1: y, y2: bottom }));
      const isLate = this.x(lane.over.at) > this.width - 70;
      this.texts.push(shape("text", { x: this.x(lane.over.at) + (isLate ? -5 : 5), y: y + 11, "text-anchor": isLate ? "end" : "start" }, lane.over.how));
    }
    if (lane.segments.length) {
      this.deadline(svg, inside, lane, y);
      y += DEADLINE;
    }
    lane.rows.forEach((name, row) => {
      const middle = y + row * ROW + ROW / 2;
      svg.append(shape("text", { class: "small", x: this.gutter - 8, y: middle + 4, "text-anchor": "end" }, name.length > 15 ? `${name.slice(0, 14)}…` : name));
      inside.append(shape("line", { class: "grid", x1: this.gutter, x2: this.width, y1: middle, y2: middle }));
      this.cluster(lane, row, middle);
    });
  }

  title(lane, top) {
    const about = shape("tspan", { dx: 8, class: "about" }, lane.about);
    return shape("text", { class: "title", x: 0, y: top + 15 }, lane.name, about);
  }

  deadline(svg, inside, lane, top) {
    const height = DEADLINE - 8, most = Math.max(1, ...lane.segments.map((part) => part[2]));
    const y = (left) => top + 2 + height * (1 - left / most);
    let jump = "", falling = "", last = null;
    for (const [from, to, begin, end] of lane.segments) {
      const [a, b] = [this.x(from), this.x(to)];
      inside.append(shape("path", { class: "left", d: `M${a} ${y(0)}V${y(begin)}L${b} ${y(end)}V${y(0)}Z` }));
      falling += `M${a} ${y(begin)}L${b} ${y(end)}`;
      if (last && last[0] === from) jump += `M${a} ${y(last[1])}V${y(begin)}`;
      last = [to, end];
    }
    inside.append(shape("path", { class: "jump", d: jump }), shape("path", { class: "falling", d: falling }));
    svg.append(
      shape("text", { class: "small", x: this.gutter - 8, y: y(most) + 8, "text-anchor": "end" }, duration(most)),
      shape("text", { class: "small", x: this.gutter - 8, y: y(0), "text-anchor": "end" }, "0 left"),
    );
  }

  happen(inside) {
    let free = -1e9;
    for (const { at, text } of this.data.happenings) {
      const x = this.x(at);
      inside.append(shape("line", { class: "happening", x1: x, x2: x, y1: TOP, y2: this.bottom }));
      if (x < free || x < this.gutter) continue;
      const isLate = x > this.width - 7 * text.length;
      this.texts.push(shape("text", { class: "happening small", x: x + (isLate ? -4 : 4), y: TOP + 10, "text-anchor": isLate ? "end" : "start" }, text));
      free = x + 7 * text.length;
    }
  }

  // Marks of one row that would lie over each other become one, unless they are few and different.
  cluster(lane, row, y) {
    let open = null;
    const found = [];
    for (const mark of lane.marks) {
      if (mark.row !== row) continue;
      const x = this.x(this.place(mark));
      if (x < this.gutter - 8 || x > this.width) continue;
      if (open && x - open.to < NEAR) {
        open.items.push(mark);
        open.to = x;
      } else {
        open = { lane, y, from: x, to: x, items: [mark] };
        found.push(open);
      }
    }
    this.marks.push(...found.flatMap((mark) => this.spread(mark)));
  }

  spread(mark) {
    const kinds = new Set(mark.items.map(glyphOf));
    if (kinds.size > 1) kinds.delete("event");
    const weighty = mark.items.filter((item) => kinds.has(glyphOf(item)));
    if (mark.items.length === 1 || weighty.length !== kinds.size || kinds.size > 3 || mark.to - mark.from > 3) return [mark];
    const start = mark.from - ((weighty.length - 1) * 13) / 2;
    return weighty.map((item, n) => {
      const x = start + n * 13, beside = n ? [] : mark.items.filter((other) => !weighty.includes(other));
      return { ...mark, from: x, to: x, items: [item], beside };
    });
  }

  mark(mark, n) {
    const [first] = mark.items, bad = mark.items.filter(isBad);
    const shown = bad[0] || first;
    const made = shape("g", { class: `mark ${classOf(shown)}`, tabindex: -1, role: "button", "aria-label": this.label(mark) });
    if (mark.items.length > 1) this.pill(made, mark, bad);
    else {
      const wait = this.isTimed ? this.x(first.to) - mark.from : 0;
      if (wait > 3) made.append(shape("line", { class: "wait", x1: mark.from, x2: mark.from + wait, y1: mark.y, y2: mark.y }));
      if (first.state === "failed") made.append(this.failed(first));
      made.append(shape("circle", { class: "reach", cx: mark.from, cy: mark.y, r: 8.5 }));
      made.append(shape("g", { transform: `translate(${mark.from} ${mark.y})` }, glyph(glyphOf(first))));
    }
    made.addEventListener("pointerenter", () => this.tip(mark));
    made.addEventListener("pointerleave", () => (this.pop.hidden = true));
    made.addEventListener("focus", () => ((this.at = n), this.tip(mark)));
    made.addEventListener("blur", () => (this.pop.hidden = true));
    made.addEventListener("click", () => this.open(mark));
    mark.drawn = made;
    return made;
  }

  pill(made, mark, bad) {
    const good = mark.items.filter((item) => item.state === "good"), refused = mark.items.filter((item) => item.state === "refused");
    const parts = [good, refused, bad].filter((items) => items.length);
    const least = parts.map((items) => 10 + 7 * String(items.length).length);
    const all = least.reduce((sum, width) => sum + width), width = Math.max(all, mark.to - mark.from + 10);
    const failed = bad.find((item) => item.state === "failed");
    if (failed) made.append(this.failed(failed));
    let left = (mark.from + mark.to - width) / 2;
    made.append(shape("rect", { class: "reach", x: left - 3, y: mark.y - 10, width: width + 6, height: 20, rx: 10 }));
    parts.forEach((items, n) => {
      const part = (width * least[n]) / all;
      made.append(shape("rect", { class: `sign ${classOf(items[0])}`, x: left, y: mark.y - 7.5, width: part, height: 15, rx: 7.5 }));
      made.append(shape("text", { class: "count", x: left + part / 2, y: mark.y + 4, "text-anchor": "middle" }, String(items.length)));
      left += part;
    });
  }

  failed(mark) {
    const x = this.x(this.place(mark));
    return shape("line", { class: "failed-at", x1: x, x2: x, y1: TOP, y2: this.bottom });
  }

  label(mark) {
    const [first] = mark.items, last = mark.items.at(-1);
    if (mark.items.length === 1) return `${duration(first.at)} ${first.title}`;
    const between = first.at === last.at ? `at ${duration(first.at)}` : `from ${duration(first.at)} to ${duration(last.at)}`;
    return `${mark.items.length} ${between}`;
  }

  tip(mark) {
    const [first] = mark.items;
    this.pop.replaceChildren(element("h4", null, this.label(mark)));
    if (mark.items.length === 1) {
      this.pop.append(list(first.parts));
      if (mark.beside?.length) this.pop.append(element("p", { class: "soft-text" }, `with ${this.counted(mark.beside).join(", ")}`));
    } else {
      const lines = this.counted(mark.items);
      const more = lines.length > SHOWN ? [`and ${lines.length - SHOWN} other`] : [];
      this.pop.append(element("ol", null, ...[...lines.slice(0, SHOWN), ...more].map((line) => element("li", null, line))));
    }
    this.pop.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = this.pop, x = (mark.from + mark.to) / 2;
    const roomBelow = innerHeight - this.box.getBoundingClientRect().top - mark.y - 16;
    const top = roomBelow < height && mark.y > height ? mark.y - height - 14 : mark.y + 14;
    this.pop.style.transform = `translate(${Math.max(0, Math.min(x - width / 2, this.width - width))}px, ${top}px)`;
  }

  counted(items) {
    const counts = new Map();
    for (const { title } of items) counts.set(title, (counts.get(title) || 0) + 1);
    return [...counts].map(([title, count]) => (count > 1 ? `${count} × ${title}` : title));
  }

  // A cluster that spans some time is looked at more closely; anything else is read in the story.
  open(mark) {
    const [first] = mark.items, from = this.place(first), length = this.place(mark.items.at(-1)) - from;
    if (length > (this.isTimed ? 3 : 0) && mark.to > mark.from) {
      this.at = 0;
      this.show([from - length * 0.1, from + length * 1.1]);
      return;
    }
    this.story.open = true;
    this.tell();
    const row = this.rows.get(first);
    row.firstChild.open = true;
    row.scrollIntoView({ block: "nearest" });
    row.querySelector("summary").focus();
  }

  aim(n, focus = true) {
    if (!this.marks.length) return;
    const old = this.marks[this.at], next = this.marks[Math.max(0, n)];
    if (old) old.drawn.setAttribute("tabindex", -1);
    next.drawn.setAttribute("tabindex", 0);
    this.at = Math.max(0, n);
    if (focus) next.drawn.focus();
  }

  key(event) {
    const moves = { ArrowRight: this.at + 1, ArrowLeft: this.at - 1, Home: 0, End: this.marks.length - 1 };
    const zooms = { "+": 2, "-": 0.5, 0: 0 };
    if (event.key in moves) this.aim(Math.min(this.marks.length - 1, Math.max(0, moves[event.key])));
    else if (event.key in zooms) this.zoom(zooms[event.key]);
    else if (event.key === "Escape") this.pop.hidden = true;
    else if (event.key === "Enter" && this.marks.length) this.open(this.marks[this.at]);
    else return;
    event.preventDefault();
  }

  drag(down) {
    if (down.pointerType === "touch" || down.button) return;
    const left = this.box.getBoundingClientRect().left, from = down.clientX - left;
    const chosen = shape("rect", { class: "selected", y: 0, height: this.bottom });
    const place = (event) => {
      const to = event.clientX - left;
      chosen.setAttribute("x", Math.min(from, to));
      chosen.setAttribute("width", Math.abs(to - from));
      return [Math.min(from, to), Math.max(from, to)];
    };
    const move = (event) => {
      if (place(event)[1] - place(event)[0] > 5) this.box.firstChild.append(chosen);
    };
    const up = (event) => {
      removeEventListener("pointermove", move);
      const [a, b] = place(event);
      chosen.remove();
      if (b - a > 5) this.show([this.ms(a), this.ms(b)]);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", up, { once: true });
  }

  explain() {
    const used = new Set(this.data.lanes.flatMap((lane) => lane.marks.map(glyphOf)));
    for (const name of Object.keys(GLYPHS).filter((known) => used.has(known))) {
      const state = ["refused", "limited", "error", "lost", "failed"].includes(name) ? `state-${name}` : name;
      const sign = shape("svg", { viewBox: "-8 -8 16 16", class: `mark ${state}`, "aria-hidden": "true" }, glyph(name));
      this.legend.append(element("li", null, sign, GLYPHS[name].says));
    }
  }

  // The list under the drawing, made when it is first wanted.
  tell() {
    if (this.rows || !this.story.open) return;
    this.rows = new Map();
    const all = this.data.lanes.flatMap((lane) => lane.marks.map((mark) => ({ lane, mark })));
    all.sort((one, other) => one.mark.at - other.mark.at || one.mark.step - other.mark.step);
    for (const { lane, mark } of all) {
      const bad = isBad(mark) ? "bad-text" : "";
      const head = element("summary", null, element("time", null, duration(mark.at)), element("span", null, `${lane.name}, ${lane.rows[mark.row]}`), element("span", { class: bad }, mark.title));
      const details = element("details", null, head);
      details.addEventListener("toggle", () => details.childElementCount === 1 && details.append(list(mark.parts)));
      this.rows.set(mark, element("li", null, details));
    }
    this.story.querySelector("ol").replaceChildren(...this.rows.values());
  }
}

const plays = [...document.querySelectorAll(".play")];
const drawn = new Map();

function drawOpen(play) {
  if (play.open && !drawn.has(play) && play.querySelector(".drawing")) drawn.set(play, new Timeline(play));
}

function filter() {
  const words = document.getElementById("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const verdict = document.querySelector('[aria-pressed="true"]').dataset.verdict;
  for (const play of plays) {
    const isWanted = verdict === "all" || play.dataset.verdict === verdict;
    play.hidden = !isWanted || !words.every((word) => play.dataset.text.includes(word));
  }
  document.getElementById("none").hidden = !plays.length || plays.some((play) => !play.hidden);
}

function goTo() {
  const play = document.getElementById(location.hash.slice(1));
  if (play && plays.includes(play)) play.open = true;
}

for (const play of plays) {
  play.addEventListener("toggle", () => drawOpen(play));
  drawOpen(play);
}
document.getElementById("search").addEventListener("input", filter);
for (const button of document.querySelectorAll("[data-verdict][aria-pressed]")) {
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll("[aria-pressed]")) other.setAttribute("aria-pressed", other === button);
    filter();
  });
}
addEventListener("hashchange", goTo);
goTo();
