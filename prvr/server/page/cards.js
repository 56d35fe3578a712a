// A video as a card: the frame at the moment, the curve, title, time and score.

import { picture } from "./curve.js";
import { draw, make } from "./elements.js";
import { address, watching } from "./place.js";
import { foundBy, quotesOf } from "./senses.js";
import { NO_PICTURES, pictureOf, statusOf } from "./service.js";
import { forgetStill, wantStill } from "./stills.js";
import { clock, fitOf, folderOf, longFitOf, marksOf, notesOf, stretch } from "./words.js";

// Milliseconds until a picture that did not come is asked for again, and how often.
const AGAIN = 3000;
const TRIES = 3;

// scale: that of all curves of the answer. rate: what a thumb does, with the moment and "more" or "less"; null where there are none.
export function hitCard(hit, rank, place, scale, rate = null) {
  const span = hit.spans[0];
  // The player opens where the picture was taken: what the card shows is what plays.
  const instant = hit.peak ?? 0;
  const fit = fitOf(hit);
  const sense = foundBy(hit);
  const label = [`${rank}. ${hit.title}`, span ? stretch(span) : "", fit, sense].filter(Boolean).join(", ");
  const made = card(hit, label, watching(place, hit.video, instant), [
    frame(hit, instant, span ? stretch(span) : null),
    hit.edges.length > 1 ? picture({ ...hit, spans: marksOf(hit) }, scale) : null,
    names(hit, sense, fit ? "" : longFitOf(hit)),
    fit ? make("span", { class: "score", title: longFitOf(hit) }, fit) : null,
  ]);
  made.dataset.at = String(instant);
  if (hit.edges.length > 1) lookAlong(made, hit, span ? stretch(span) : "");
  if (rate && hit.peak !== null) made.append(thumbs(hit, place, rate));
  if (hit.quotes.length) made.append(quotesOf(hit, place));
  return made;
}

// With the pointer on the curve, the card shows the frame of that second.
function lookAlong(made, hit, badge) {
  const [image, curve, time] = [made.querySelector("img"), made.querySelector(".curve"), made.querySelector(".badge")];
  const first = image.src;
  curve.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") return;
    const box = curve.getBoundingClientRect();
    const seconds = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * hit.edges.at(-1);
    wantStill(hit.video, seconds, (still) => {
      image.src = still.src;
      if (time) time.textContent = clock(seconds);
    });
  });
  curve.addEventListener("pointerleave", () => {
    forgetStill();
    image.src = first;
    if (time) time.textContent = badge;
  });
}

function thumbs(hit, place, rate) {
  const moment = `${hit.video}@${hit.peak.toFixed(2)}`;
  const thumb = (name, said) => {
    const pressed = place[name].includes(moment);
    return make("button", { type: "button", class: "thumb", "aria-pressed": String(pressed), "aria-label": `${said}: ${hit.title}`, title: said, onclick: () => rate(name, moment) }, hand(name));
  };
  return make("div", { class: "thumbs" }, thumb("more", "More like this"), thumb("less", "Not this"));
}

// Drawn, because not every system has a letter for it.
function hand(name) {
  const line = draw("path", { d: "M7 11v9H3v-9zM7 11l4-8c2 0 3 1 3 3v3h5c1.5 0 2.3 1 2 2.5l-1.3 6.5c-.2 1.2-1 2-2.2 2H7" });
  return draw("svg", { class: `hand ${name}`, viewBox: "0 0 24 24", "aria-hidden": "true" }, line);
}

// Between the hits and those that sentences about anything else reach as well.
export function divider(text) {
  return make("li", { class: "divider" }, text);
}

export function videoCard(video, place) {
  const middle = (video.duration ?? 0) / 2;
  const parts = [frame(video, middle, video.duration ? clock(video.duration) : null), names(video)];
  return card(video, video.title, watching(place, video.video, 0), parts);
}

export function ghosts(count) {
  return Array.from({ length: count }, () => make("li", { class: "card ghost", "aria-hidden": "true" }, make("div", { class: "frame" }), make("i"), make("i")));
}

function card(video, label, place, parts) {
  const link = make("a", { href: address(place), "aria-label": label, title: video.video }, ...parts);
  return make("li", { class: "card", "data-video": video.video }, link);
}

function frame(video, seconds, badge) {
  const image = make("img", { src: pictureOf(video.video, seconds), alt: "", loading: "lazy", decoding: "async" });
  const note = make("span", { class: "lacking", hidden: true });
  const box = make("div", { class: "frame" }, image, note, badge ? make("span", { class: "badge" }, badge) : null);
  image.addEventListener("load", () => {
    image.classList.add("there");
    note.hidden = true;
  });
  let tries = 0;
  image.addEventListener("error", async () => {
    const status = await statusOf(image.src);
    const isLate = status === null || status === 200 || status >= 500;
    note.textContent = status === NO_PICTURES ? "no picture" : isLate ? "the picture does not come" : status === 404 ? "nothing to show here" : "cannot be shown";
    // A service with much to do shows it later.
    if (isLate && (tries += 1) < TRIES) setTimeout(() => (image.src = `${image.src}`), AGAIN);
    else note.hidden = false;
  });
  return box;
}

function names(video, ...said) {
  const lines = [folderOf(video.video), ...said, ...notesOf(video)].filter(Boolean);
  const small = lines.map((line) => make("span", { class: "folder", title: line }, line));
  return make("span", { class: "names" }, make("span", { class: "title" }, video.title), ...small);
}
