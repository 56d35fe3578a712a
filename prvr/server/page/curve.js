// The relevance of a query along a video, with the found spans and the quoted words marked.

import { draw, make } from "./elements.js";
import { toneOf } from "./senses.js";
import { forgetStill, wantStill } from "./stills.js";
import { clock, percent } from "./words.js";

const WIDE = 1000;
const HIGH = 100;
const BAR = 12;
// Differences smaller than this are drawn small: noise should not look like a mountain.
const LEAST_RANGE = 0.05;

// The lowest and the highest relevance of some hits: drawn with these, their curves can be compared.
export function scaleOf(hits) {
  const values = hits.flatMap((hit) => hit.curve);
  // A long video has more values than a call has arguments.
  const high = values.reduce((one, other) => Math.max(one, other), -Infinity);
  return { high, low: values.reduce((one, other) => Math.min(one, other), high - LEAST_RANGE) };
}

const widest = (own, other) => (other ? { high: Math.max(own.high, other.high), low: Math.min(own.low, other.low) } : own);

export function picture(hit, scale = scaleOf([hit])) {
  const image = draw("svg", { class: "curve", viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const end = hit.edges.at(-1) || 1;
  const mark = (name, span, y, height) => {
    const [x, width] = [(span.start / end) * WIDE, ((span.end - span.start) / end) * WIDE];
    image.append(draw("rect", { class: name, x, y, width: Math.max(width, 4), height }));
  };
  for (const span of hit.spans) mark("span", span, 0, HIGH);
  // Words have a bar of their own, above or below: they are told from the picture's spans, and from each other, without colours, too.
  for (const quote of hit.quotes) {
    mark(`words ${toneOf(quote)}`, quote, 0, HIGH);
    mark(`bar-of ${toneOf(quote)}`, quote, toneOf(quote) === "said" ? 0 : HIGH - BAR, BAR);
  }
  const line = path(hit, end, scale);
  image.append(draw("path", { class: "area", d: `${line} L ${WIDE} ${HIGH} L 0 ${HIGH} Z` }));
  image.append(draw("path", { class: "line", d: line }));
  return image;
}

function path(hit, end, { low, high }) {
  const y = (value) => HIGH * (0.96 - (0.88 * (value - low)) / (high - low));
  const points = hit.curve.map((value, n) => [((hit.edges[n] + hit.edges[n + 1]) / 2 / end) * WIDE, y(value)]);
  // A stretch is a point in its middle; the first and the last reach to the ends.
  points.unshift([0, points[0][1]]);
  points.push([WIDE, points.at(-1)[1]]);
  return smooth(points);
}

// A cubic through all points without overshooting: no peak is drawn that is not there (Fritsch and Carlson, 1980).
function smooth(points) {
  const slopes = points.slice(1).map(([x, y], n) => (y - points[n][1]) / (x - points[n][0] || 1));
  const tangents = points.map((_, n) => {
    if (n === 0 || n === points.length - 1) return 0;
    const [before, after] = [slopes[n - 1], slopes[n]];
    return before * after <= 0 ? 0 : (2 * before * after) / (before + after);
  });
  let text = `M ${points[0].map(short).join(" ")}`;
  for (let n = 1; n < points.length; n++) {
    const [[x0, y0], [x1, y1]] = [points[n - 1], points[n]];
    const third = (x1 - x0) / 3;
    const controls = [x0 + third, y0 + third * tangents[n - 1], x1 - third, y1 - third * tangents[n], x1, y1];
    text += ` C ${controls.map(short).join(" ")}`;
  }
  return text;
}

const short = (number) => Number(number.toFixed(2));

// The curve as a slider over the video's time: a click or the arrow keys seek.
// scale: that of all curves of the answer, null if it is not known; it is made larger where this curve leaves it.
export function slider(hit, { onSeek, scale: given = null }) {
  const end = hit.edges.at(-1) || 1;
  const head = make("div", { class: "head" });
  const [still, when] = [make("div", { class: "still" }), make("span")];
  const tip = make("div", { class: "tip", hidden: true, "aria-hidden": "true" }, still, when);
  const track = make(
    "div",
    { class: "track", role: "slider", tabindex: 0, "aria-label": "Relevance over time; the position in the video", "aria-valuemin": 0, "aria-valuemax": Math.round(end) },
    picture(hit, widest(scaleOf([hit]), given)),
    head,
    tip,
  );
  const secondsAt = (event) => {
    const box = track.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * end;
  };
  const [low, high] = [Math.min(...hit.curve), Math.max(...hit.curve)];
  const valueAt = (seconds) => hit.curve[Math.max(0, hit.edges.findLastIndex((edge, n) => edge <= seconds && n < hit.curve.length))];
  const relevanceAt = (seconds) => percent(high > low ? (valueAt(seconds) - low) / (high - low) : 1);
  let now = 0;
  const show = (seconds) => {
    now = Math.min(Math.max(seconds, 0), end);
    head.style.insetInlineStart = `${(100 * now) / end}%`;
    track.setAttribute("aria-valuenow", now.toFixed(1));
    track.setAttribute("aria-valuetext", `${clock(now)} of ${clock(end)}, relevance ${relevanceAt(now)} of its highest`);
    if (!tip.hidden && document.activeElement === track && !track.matches(":hover")) showTip(now);
  };
  // The time, with the frame of its second as soon as that is there.
  const showTip = (seconds) => {
    tip.hidden = false;
    when.textContent = clock(seconds);
    tip.style.setProperty("--at", `${(100 * seconds) / end}%`);
    wantStill(hit.video, seconds, (image) => still.replaceChildren(image));
  };
  const hideTip = () => {
    tip.hidden = true;
    forgetStill();
  };
  track.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    track.setPointerCapture(event.pointerId);
    onSeek(secondsAt(event));
  });
  track.addEventListener("pointermove", (event) => {
    const seconds = secondsAt(event);
    if (track.hasPointerCapture(event.pointerId)) onSeek(seconds);
    showTip(seconds);
  });
  track.addEventListener("pointerleave", hideTip);
  track.addEventListener("focus", () => track.matches(":focus-visible") && showTip(now));
  track.addEventListener("blur", hideTip);
  track.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, PageDown: now - 10, PageUp: now + 10, Home: 0, End: end };
    if (!(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    tip.hidden = false;
    onSeek(Math.min(Math.max(steps[event.key], 0), end));
    showTip(now);
  });
  show(0);
  return { element: make("div", { class: "timeline" }, track, scale(end)), show };
}

function scale(end) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
  const step = steps.find((one) => end / one <= 8) ?? Math.ceil(end / 8 / 3600) * 3600;
  const marks = make("div", { class: "scale", "aria-hidden": "true" });
  for (let seconds = 0; seconds <= end - step / 3; seconds += step) {
    const mark = make("span", {}, clock(seconds));
    mark.style.insetInlineStart = `${(100 * seconds) / end}%`;
    marks.append(mark);
  }
  return marks;
}
